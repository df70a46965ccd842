//! One object of a bundle.

use serde::Serialize;

use super::Need;
use crate::object::{ContentHash, ObjectKind};
use crate::path::RootPath;

/// One object of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BundleObject {
    /// Its name.
    pub hash: ContentHash,
    /// File, chunk or catalog.
    pub kind: ObjectKind,
    /// Which of the bundle's repositories has it.
    pub repository: u16,
    /// Bytes on the server.
    pub stored_size: u64,
    /// Bytes in a cache.
    pub raw_size: u64,
    /// Where in the file its bytes begin; 0 unless it is a chunk.
    pub offset: u64,
    /// A path in the repository that it is for, for people and for readers through the mount.
    pub path: RootPath,
    /// How much it is needed.
    pub need: Need,
    /// Where it is in a pack.
    pub packed: Option<Packed>,
}

/// A place in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// Which of the bundle's packs.
    pub pack: u16,
    /// Where its stored bytes begin in the pack file.
    pub offset: u64,
}

impl BundleObject {
    /// A whole file, of which nothing more is told, that every start needs.
    pub fn file(hash: ContentHash, raw_size: u64, path: RootPath) -> Self {
        Self {
            hash,
            kind: ObjectKind::File,
            repository: 0,
            stored_size: 0,
            raw_size,
            offset: 0,
            path,
            need: Need::always(1),
            packed: None,
        }
    }
}
