//! Profiles: the named workloads of an image.

use serde::Serialize;

use crate::codec::{Decode, Encode};

/// Most profiles of a bundle.
pub const MAX_PROFILES: usize = 64;

/// A named workload of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct Profile {
    /// Name with which prefetch requests select it.
    pub name: String,
    /// Number of traces of this workload.
    pub traces: u32,
}

/// A set of profiles of one bundle. The empty set stands for the common section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProfileSet(pub(super) u64);

impl ProfileSet {
    /// A set from its bits; bit n stands for profile number n.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// This set with profile number `profile` added.
    #[must_use]
    pub fn and(self, profile: usize) -> Self {
        Self(self.0 | 1 << profile.min(MAX_PROFILES - 1))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether profile number `profile` is in the set.
    pub fn has(self, profile: usize) -> bool {
        profile < MAX_PROFILES && self.0 & 1 << profile != 0
    }

    /// The most frequent profile of the set.
    pub fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    /// The numbers of its profiles, the most frequent first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_PROFILES).filter(move |profile| self.has(*profile))
    }
}
