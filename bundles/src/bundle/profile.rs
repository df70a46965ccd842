//! What an image is run for.

use serde::Serialize;

/// The most profiles of a bundle.
pub const MAX_PROFILES: usize = 64;

/// One kind of work that is done with an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Profile {
    /// By which it is asked for.
    pub name: String,
    /// How many traces showed it.
    pub traces: u32,
}

/// Some of a bundle's profiles. An object that belongs to none is of the common part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProfileSet(pub(super) u64);

impl ProfileSet {
    /// The set as bits; bit n stands for the n-th profile.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Adds the n-th profile.
    #[must_use]
    pub fn and(self, profile: usize) -> Self {
        Self(self.0 | 1 << profile.min(MAX_PROFILES - 1))
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the n-th profile is in it.
    pub fn has(self, profile: usize) -> bool {
        profile < MAX_PROFILES && self.0 & 1 << profile != 0
    }

    /// The most frequent of its profiles.
    pub fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    /// Its profiles, the most frequent first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_PROFILES).filter(move |profile| self.has(*profile))
    }
}
