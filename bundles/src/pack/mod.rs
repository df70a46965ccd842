//! Packs: many small objects of a repository in one file, in the order in which a start needs them.
//!
//! ```text
//! offset  size  content
//!      0     4  magic "CPFP"
//!      4     4  major and minor version, little endian
//!      8     8  length of the index, little endian
//!     16    32  SHA-256 of the index
//!     48     n  index: one zstd frame of bincode 2
//!   48+n     m  the objects, bit-identical to the repository's, one after the other
//! ```
//!
//! The SHA-256 of the whole file is its name, so nodes and images share packs, and nobody can change one. With the index, or with
//! a bundle that refers to the pack, any single object can be read by its offset. Every object is verified against its own hash,
//! as if it came from the repository. `docs/src/pack-format.md` specifies the format.

mod index;
mod plan;
mod published;
mod reader;
#[cfg(test)]
mod tests;
#[cfg(feature = "remote")]
mod writer;

pub use index::{Index, PackedObject};
pub use plan::{PackLimits, PackPlan, plan};
pub use published::{PackPart, PublishedPack, decode_published_packs, encode_published_packs};
pub use reader::PackFile;
#[cfg(feature = "remote")]
pub use writer::{PackError, add_packs, assemble};

use crate::codec::Format;
use crate::image::Digest;

/// The format of pack files, `CPFP`.
pub const FORMAT: Format = Format { name: "pack", magic: *b"CPFP", major: 1, minor: 0 };

/// Most objects of a pack.
pub const MAX_OBJECTS: usize = 1_000_000;

/// Largest object of a pack, in stored bytes. It bounds what is read for one object.
pub const MAX_OBJECT: u64 = 16 << 20;

/// Bytes before the index.
pub const HEADER: usize = 48;

/// The name of a pack file.
pub fn file_name(digest: &Digest) -> String {
    format!("{}.pack", digest.hex())
}
