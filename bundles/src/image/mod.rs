//! What identifies an image.

mod digest;

pub use digest::{ChainId, Digest, ParseDigestError};

use serde::Serialize;

use crate::codec::{Decode, Encode};

/// The names of an image. The chain ID is its identity: when a container starts, a snapshotter knows nothing
/// else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct ImageId {
    /// Chain ID of the topmost layer.
    pub chain_id: ChainId,
    /// Digest of the manifest, if known.
    pub manifest: Option<Digest>,
    /// The reference under which it was pulled, for people.
    pub reference: String,
}
