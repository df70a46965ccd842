//! Where a repository has a pack file.

use bincode::{Decode, Encode};

use crate::codec::{BadFile, Format};
use crate::image::Digest;
use crate::object::{ContentHash, ObjectKind};

/// A pack is an ordinary file of the repository, so it comes as one object or as chunks.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PackPlace {
    /// One, or its chunks; without gaps.
    pub parts: Vec<PackPart>,
}

/// One object of the repository that holds a part of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PackPart {
    /// Its name.
    pub hash: ContentHash,
    /// File or chunk.
    pub kind: ObjectKind,
    /// Where in the pack it begins.
    pub start: u64,
    /// Its bytes of the pack.
    pub raw_size: u64,
    /// Whether the server has it compressed.
    pub compressed: bool,
}

/// What a store keeps of the packs of a bundle: `CPFL`.
const FORMAT: Format = Format { name: "list of pack places", magic: *b"CPFL", major: 1, minor: 0 };
/// The most bytes that such a list may claim.
const MAX: usize = 16 << 20;

/// The stored form of the places of some packs.
pub fn encode_places(places: &[(Digest, PackPlace)]) -> Result<Vec<u8>, BadFile> {
    FORMAT.wrap(&FORMAT.encode(&places)?)
}

/// The reverse of [`encode_places`].
pub fn decode_places(bytes: &[u8]) -> Result<Vec<(Digest, PackPlace)>, BadFile> {
    let (payload, minor) = FORMAT.unwrap(bytes)?;
    FORMAT.decode_all::<_, MAX>(payload, minor)
}
