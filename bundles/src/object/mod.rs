//! Objects: the files of a CVMFS repository's content-addressed storage.

mod inflater;
mod unpacker;

use std::fmt;
use std::str::FromStr;

pub use inflater::Inflater;
pub use unpacker::Unpacker;

use serde::Serialize;
use sha1::{Digest, Sha1};

use crate::codec::{Decode, Encode};

/// The hash algorithms a repository may use. All digests are 20 bytes long. Source of names and suffixes:
/// `cvmfs/crypto/hash.h` of CVMFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// SHA-1, the default.
    Sha1,
    /// RIPEMD-160, written with the suffix `-rmd160`.
    Rmd160,
    /// SHAKE-128 cut to 160 bits, written with the suffix `-shake128`.
    Shake128,
}

impl HashAlgorithm {
    /// The suffix behind the hex digits in text forms.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Sha1 => "",
            Self::Rmd160 => "-rmd160",
            Self::Shake128 => "-shake128",
        }
    }
}

/// The kind of content behind a hash. On a server the kind is a letter behind the hash in the file name; a
/// client's cache does not keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A whole file.
    File,
    /// A part of a chunked file.
    Chunk,
    /// A file catalog (SQLite).
    Catalog,
    /// The tag history (SQLite).
    History,
    /// The signing certificate (X.509).
    Certificate,
    /// Repository meta information (JSON).
    Metainfo,
}

impl ObjectKind {
    /// The letter behind the hash in a server's file name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::File => "",
            Self::Chunk => "P",
            Self::Catalog => "C",
            Self::History => "H",
            Self::Certificate => "X",
            Self::Metainfo => "M",
        }
    }
}

/// A content hash, computed over the stored (normally zlib-compressed) bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct ContentHash {
    /// The algorithm that computed `digest`.
    pub algorithm: HashAlgorithm,
    /// The 160 bits of the hash.
    pub digest: [u8; 20],
}

impl ContentHash {
    /// The SHA-1 of `stored`, the bytes as a server keeps them.
    pub fn sha1_of(stored: &[u8]) -> Self {
        Self::sha1(Sha1::digest(stored).into())
    }

    /// A SHA-1 from its 20 bytes.
    pub fn sha1(digest: [u8; 20]) -> Self {
        Self { algorithm: HashAlgorithm::Sha1, digest }
    }

    /// Path below a client's cache directory: `<2 hex>/<38 hex><algorithm>`, without the kind.
    pub fn cache_path(&self) -> String {
        let text = self.to_string();
        format!("{}/{}", &text[..2], &text[2..])
    }

    /// Path below a repository's URL: `data/<2 hex>/<38 hex><algorithm><kind>`.
    pub fn url_path(&self, kind: ObjectKind) -> String {
        format!("data/{}{}", self.cache_path(), kind.suffix())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", hex::encode(self.digest), self.algorithm.suffix())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is not a content hash.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a content hash: expected 40 hex digits and one of \"\", \"-rmd160\", \"-shake128\"")]
pub struct ParseHashError(String);

impl FromStr for ContentHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        let bad = || ParseHashError(text.chars().take(80).collect());
        let (digits, rest) = text.split_at_checked(40).ok_or_else(bad)?;
        let algorithm = [HashAlgorithm::Sha1, HashAlgorithm::Rmd160, HashAlgorithm::Shake128]
            .into_iter()
            .find(|a| a.suffix() == rest)
            .ok_or_else(bad)?;
        let mut digest = [0; 20];
        hex::decode_to_slice(digits, &mut digest).map_err(|_| bad())?;
        Ok(Self { algorithm, digest })
    }
}

/// Stored bytes are not the object they should be.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bytes have a different hash.
    #[error("object {expected} has the hash {found}: the server, a proxy or the network changed its bytes")]
    WrongHash {
        /// The hash by which the object was requested.
        expected: ContentHash,
        /// The hash of the bytes that came.
        found: ContentHash,
    },
    /// The object's hash algorithm is not SHA-1, the only one that can be verified here.
    #[error("object {0} cannot be verified: this version supports only SHA-1")]
    Unverifiable(ContentHash),
    /// The bytes are not a zlib stream, or decompress to another size than expected.
    #[error("object {hash} does not decompress to {expected} bytes: {reason}")]
    WrongSize {
        /// The hash by which the object was requested.
        hash: ContentHash,
        /// Expected size after decompression.
        expected: u64,
        /// The decompressor's message.
        reason: String,
    },
}

/// Checks that `stored` is the object `hash`.
pub fn verify(hash: &ContentHash, stored: &[u8]) -> Result<(), ObjectError> {
    if hash.algorithm != HashAlgorithm::Sha1 {
        return Err(ObjectError::Unverifiable(*hash));
    }
    let found = ContentHash::sha1_of(stored);
    if found != *hash {
        return Err(ObjectError::WrongHash { expected: *hash, found });
    }
    Ok(())
}

/// Checks that `stored` is the object `hash` and returns its content, which must be `raw_size` bytes long.
pub fn unpack(hash: &ContentHash, stored: &[u8], raw_size: u64) -> Result<Vec<u8>, ObjectError> {
    let mut scratch = Scratch::default();
    let length = scratch.unpack(hash, stored, raw_size)?.len();
    scratch.raw.truncate(length);
    Ok(scratch.raw)
}

/// Decompressor and buffer for unpacking many objects one after the other.
pub struct Scratch {
    decompressor: libdeflater::Decompressor,
    raw: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { decompressor: libdeflater::Decompressor::new(), raw: Vec::new() }
    }
}

impl Scratch {
    /// As [`unpack`], but into a buffer that the next call reuses.
    pub fn unpack(&mut self, hash: &ContentHash, stored: &[u8], raw_size: u64) -> Result<&[u8], ObjectError> {
        verify(hash, stored)?;
        let wrong = |reason: String| ObjectError::WrongSize { hash: *hash, expected: raw_size, reason };
        let length = usize::try_from(raw_size).map_err(|e| wrong(e.to_string()))?;
        if self.raw.len() < length {
            self.raw.resize(length, 0);
        }
        let raw = &mut self.raw[..length];
        let written = self.decompressor.zlib_decompress(stored, raw).map_err(|e| wrong(e.to_string()))?;
        if written == length { Ok(raw) } else { Err(wrong(format!("it holds {written} bytes"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-1 of CVMFS's empty file: an empty zlib stream at the server's compression level.
    const EMPTY: &str = "e8ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78";
    const EMPTY_STORED: [u8; 8] = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];

    #[test]
    fn names_follow_the_server_and_the_cache() {
        let hash: ContentHash = EMPTY.parse().unwrap();
        assert_eq!(hash.cache_path(), "e8/ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78");
        assert_eq!(hash.url_path(ObjectKind::Chunk), "data/e8/ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78P");
        let shake: ContentHash = format!("{EMPTY}-shake128").parse().unwrap();
        assert_eq!(shake.url_path(ObjectKind::Catalog), "data/e8/ec3d88b62ebf526e4e5a4ff6162a3aa48a6b78-shake128C");
        for bad in ["", "abc", &EMPTY[1..], &format!("{EMPTY}P"), &EMPTY.replace('e', "x"), &"\u{fc}".repeat(20)] {
            assert!(bad.parse::<ContentHash>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn unpack_takes_only_the_right_bytes() {
        let hash: ContentHash = EMPTY.parse().unwrap();
        assert_eq!(unpack(&hash, &EMPTY_STORED, 0).unwrap(), b"");
        assert!(matches!(unpack(&hash, &EMPTY_STORED, 5), Err(ObjectError::WrongSize { .. })));
        assert!(matches!(unpack(&hash, &EMPTY_STORED[..7], 0), Err(ObjectError::WrongHash { .. })));
        let rmd = ContentHash { algorithm: HashAlgorithm::Rmd160, ..hash };
        assert!(matches!(unpack(&rmd, &EMPTY_STORED, 0), Err(ObjectError::Unverifiable(_))));
    }
}
