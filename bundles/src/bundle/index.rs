//! Numbers of objects and packs within one bundle.

use std::fmt;

use serde::Serialize;

/// The index of an object in [`Bundle::objects`](super::Bundle::objects). It says nothing about another bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ObjectIndex(u32);

/// The index of a pack in [`Bundle::packs`](super::Bundle::packs). It says nothing about another bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PackIndex(u32);

impl ObjectIndex {
    /// The index of the object number `index`, from 0.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The index for use with slices and vectors.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl PackIndex {
    /// The index of the pack number `index`, from 0.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The index for use with slices and vectors.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ObjectIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for PackIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
