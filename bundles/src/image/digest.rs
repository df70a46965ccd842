//! OCI digests and chain IDs.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::codec::{Decode, Encode};

/// A SHA-256 digest, in OCI's text form `sha256:<64 hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct Digest([u8; 32]);

/// The text is not a SHA-256 digest.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a digest: expected sha256:<64 hex digits>")]
pub struct ParseDigestError(String);

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A digest from its 64 hex digits.
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest).is_ok().then_some(Self(digest))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let bad = || ParseDigestError(text.chars().take(100).collect());
        text.strip_prefix("sha256:").and_then(|digits| Self::from_hex(digits.as_bytes())).ok_or_else(bad)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Identity of a stack of layers: OCI image specification, "Layer ChainID".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain ID of a stack of layers, given the diff IDs (digests of the uncompressed layers) from the
    /// lowest to the topmost. `None` without layers.
    pub fn from_diff_ids(diff_ids: &[Digest]) -> Option<Self> {
        diff_ids.iter().fold(None, |below, diff_id| Some(Self::of_layer(below, *diff_id)))
    }

    /// The chain ID of the layer with this diff ID on the layers `below`.
    pub fn of_layer(below: Option<Self>, diff_id: Digest) -> Self {
        Self(below.map_or(diff_id, |below| Digest::sha256(format!("{below} {diff_id}").as_bytes())))
    }
}

impl FromStr for ChainId {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_follow_the_specification() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|x| Digest::sha256(x));
        assert!(ChainId::from_diff_ids(&[]).is_none());
        assert_eq!(ChainId::from_diff_ids(&[a]).unwrap().0, a);
        let ab = Digest::sha256(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::from_diff_ids(&[a, b]).unwrap().0, ab);
        assert_eq!(ChainId::from_diff_ids(&[a, b, c]).unwrap().0, Digest::sha256(format!("{ab} {c}").as_bytes()));
    }

    #[test]
    fn only_sha256_is_a_digest() {
        let text = Digest::sha256(b"").to_string();
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for bad in ["", "sha256:", "sha512:00", &text[1..], &text[..70], &format!("{text}0")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was accepted");
        }
    }
}
