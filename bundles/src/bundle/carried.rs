//! Where a bundle was carried over from.

use serde::Serialize;

use crate::image::ImageId;

/// What became of the objects of another image's bundle, when this one was made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct CarriedOver {
    /// The other image.
    pub from: ImageId,
    /// Objects whose path has the same content here.
    pub same: u32,
    /// Objects whose path has another content here.
    pub changed: u32,
    /// Objects whose path is not here.
    pub gone: u32,
}
