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
    /// Measured by leaving one trace out, see `docs/benchmarks.md`: below a third, what single runs touch comes in as
    /// waste; above a half, what every second run needs is missing. The bytes are a quarter of the stock client's cache.
    fn default() -> Self {
        Self { min_share: Share::of(2, 5), max_bytes: 1 << 30 }
    }
}
