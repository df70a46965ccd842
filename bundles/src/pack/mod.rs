//! Packs: many small objects of a repository in one file, in the order in which a start needs them.
//!
//! ```text
//! offset  size  what
//!      0     4  magic "CPFP"
//!      4     4  major and minor version, little endian
//!      8     8  length of the index, little endian
//!     16    32  SHA-256 of the index
//!     48     n  index: one zstd frame of bincode 2
//!   48+n     m  the objects, bit-identical to the repository's, one behind the other
//! ```
//!
//! A pack is called by the SHA-256 of the whole file, so nodes and images share it, and nobody can change it. Whoever has read
//! the index, or a bundle that points into the pack, can take any one object by its offset. Every object is
//! checked against its own hash, as if it came from the repository. Specified in `docs/src/pack-format.md`.

mod index;
mod place;
mod plan;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use index::{Index, Packed};
pub use place::{PackPart, PackPlace, decode_places, encode_places};
pub use plan::{Limits, PackPlan, plan};
pub use reader::PackFile;
pub use writer::{PackError, add_packs, assemble, file_name};

use crate::codec::Format;

/// Pack files: `CPFP`.
pub const FORMAT: Format = Format { name: "pack", magic: *b"CPFP", major: 1, minor: 0 };

/// The most objects of a pack.
pub const MAX_OBJECTS: usize = 1_000_000;

/// The largest object of a pack, in bytes on the server. It bounds what is read for one object.
pub const MAX_OBJECT: u64 = 16 << 20;

/// Bytes before the index.
pub const HEADER: usize = 48;
