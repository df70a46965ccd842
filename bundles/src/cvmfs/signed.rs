//! The common form of `.cvmfspublished` and `.cvmfswhitelist`: lines, `--`, the hash of the lines, a
//! signature.

use sha1::{Digest, Sha1};

use super::CvmfsError;

/// Longest signed file that is read. Real ones are below 10 KB.
pub const MAX_LEN: u64 = 1 << 20;

/// A signed text whose hash is right. The signature is not verified yet.
#[derive(Debug)]
pub struct SignedText<'a> {
    /// The lines before `--`.
    pub text: &'a str,
    /// Hash of the text in hex: this is what was signed.
    pub hash: &'a str,
    /// The signature.
    pub signature: &'a [u8],
}

impl<'a> SignedText<'a> {
    /// Splits `bytes` and checks the text against its hash.
    pub fn parse(file: &'static str, bytes: &'a [u8]) -> Result<Self, CvmfsError> {
        let malformed = |reason: &str| CvmfsError::Malformed { file, reason: reason.to_owned() };
        let cut = find(bytes, b"\n--\n").ok_or_else(|| malformed("it has no line `--`"))?;
        let (text, rest) = (&bytes[..=cut], &bytes[cut + 4..]);
        let line = find(rest, b"\n").ok_or_else(|| malformed("no hash follows `--`"))?;
        let (hash, signature) = (&rest[..line], &rest[line + 1..]);
        let text = std::str::from_utf8(text).map_err(|_| malformed("its text is not UTF-8"))?;
        let hash = std::str::from_utf8(hash).map_err(|_| malformed("its hash is not text"))?;
        if hash.len() != 40 {
            return Err(malformed("its hash is not a SHA-1; other algorithms cannot be verified by this version"));
        }
        if hex::encode(Sha1::digest(text.as_bytes())) != hash {
            return Err(CvmfsError::Untrusted { file, reason: "its text does not match its hash".to_owned() });
        }
        Ok(Self { text, hash, signature })
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
