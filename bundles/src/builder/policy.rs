//! What is worth to be in a bundle.

use crate::bundle::Share;

/// What is worth to be in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The least share of the starts that must use an object; of those of a profile, for a profile's part.
    pub min_share: Share,
    /// The most bytes on the server of all objects.
    pub max_bytes: u64,
}

impl Default for Policy {
    /// The share is measured by leaving one trace out, see `docs/src/benchmarks.md`: a larger one misses what some of the runs need,
    /// and spares next to no bytes, as what is rare is small. A smaller one would take what a single run of many touched. The
    /// bytes are a quarter of the stock client's cache.
    fn default() -> Self {
        Self { min_share: Share::of(1, 4), max_bytes: 1 << 30 }
    }
}
