//! Packs that hold a bundle's objects.

use serde::Serialize;

use crate::image::Digest;

/// A pack, by its checksum. See `docs/src/pack-format.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct PackRef {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Bytes of the file.
    pub size: u64,
}
