//! Nested catalogs that a start needs.

use serde::Serialize;

use crate::path::RootPath;

/// A nested catalog on the way to some of a bundle's files. A node warms it by touching the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, bincode::Encode, bincode::Decode)]
pub struct NeededCatalog {
    /// Which of the bundle's repositories has it.
    pub repository: u16,
    /// The directory at which it takes over.
    pub mountpoint: RootPath,
}
