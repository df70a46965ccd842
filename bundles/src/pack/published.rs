//! Pack files as a repository stores them.

use crate::codec::{Decode, Encode, Format, FormatError};
use crate::image::Digest;
use crate::object::{ContentHash, ObjectKind};

/// A pack file in a repository. It is an ordinary file, stored as one object or as chunks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct PublishedPack {
    /// The file's object, or its chunks in order, without gaps.
    pub parts: Vec<PackPart>,
}

/// An object of the repository that holds a part of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct PackPart {
    /// Hash that names the object.
    pub hash: ContentHash,
    /// File or chunk.
    pub kind: ObjectKind,
    /// Offset of the part in the pack.
    pub start: u64,
    /// Size of the part in bytes.
    pub raw_size: u64,
    /// Whether the server stores it compressed.
    pub compressed: bool,
}

/// The stored list of a bundle's published packs: `CPFL`.
const FORMAT: Format = Format { name: "list of published packs", magic: *b"CPFL", major: 1, minor: 0 };

/// Encodes where a repository has some packs, for a database.
pub fn encode_published_packs(packs: &[(Digest, PublishedPack)]) -> Result<Vec<u8>, FormatError> {
    FORMAT.seal(&packs)
}

/// The reverse of [`encode_published_packs`].
pub fn decode_published_packs(bytes: &[u8]) -> Result<Vec<(Digest, PublishedPack)>, FormatError> {
    FORMAT.open(bytes)
}
