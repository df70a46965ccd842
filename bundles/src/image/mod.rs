//! What identifies an image, and what its registry says about it.

mod digest;
pub mod registry;

pub use digest::{BadDigest, ChainId, Digest};

use serde::Serialize;

/// The names of an image. The chain ID is its identity: at a container's start it is all that a snapshotter knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, bincode::Encode, bincode::Decode)]
pub struct ImageId {
    /// Chain ID of the topmost layer.
    pub chain_id: ChainId,
    /// Digest of the manifest, if it was known.
    pub manifest: Option<Digest>,
    /// The reference by which it was called, for people.
    pub reference: String,
}
