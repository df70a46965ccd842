//! How likely an object is needed, and when.

use std::fmt;

use serde::Serialize;

use super::ProfileSet;
use crate::phase::Phase;

/// A share of a whole, in steps of 1/10,000: integers give the same result on every machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// 0%.
    pub const NONE: Self = Self(0);
    /// 100%.
    pub const ALL: Self = Self(10_000);

    /// `part` divided by `whole`, rounded down, at most 100%; 0% if both are 0.
    pub fn ratio(part: u64, whole: u64) -> Self {
        match u128::from(part.min(whole)) * 10_000 / u128::from(whole.max(1)) {
            parts @ 0..=10_000 => Self(parts as u16),
            _ => Self::ALL,
        }
    }

    /// A share from parts of 10,000; `None` above 10,000.
    pub fn from_parts(parts: u16) -> Option<Self> {
        (parts <= Self::ALL.0).then_some(Self(parts))
    }

    /// The share in parts of 10,000.
    pub fn parts(self) -> u16 {
        self.0
    }

    /// The product of two shares.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self((u32::from(self.0) * u32::from(other.0) / 10_000) as u16)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}%", self.0 / 100, self.0 / 10 % 10)
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 10_000.0)
    }
}

/// What the traces say about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Number of traces that used it.
    pub used_in: u32,
    /// Share of the starts that use it. Incomplete traces count only if they used it, because they may have
    /// missed the use.
    pub share: Share,
    /// Confidence in `share`: 100% for what was seen with this very image, less after a rebase.
    pub confidence: Share,
    /// Microseconds from time zero to the first use: the earliest of all traces.
    pub first_us: u64,
    /// Microseconds from time zero to the first use: the median of all traces.
    pub typical_us: u64,
    /// Phase of the typical first use.
    pub phase: Phase,
    /// Profiles whose section it belongs to; empty for the common section.
    pub profiles: ProfileSet,
}

impl Need {
    /// The need for an object that every start uses before anything else.
    pub fn always(traces: u32) -> Self {
        Self {
            used_in: traces,
            share: Share::ALL,
            confidence: Share::ALL,
            first_us: 0,
            typical_us: 0,
            phase: Phase::SetUp,
            profiles: ProfileSet::default(),
        }
    }

    /// Probability that a start needs it.
    pub fn expected(&self) -> Share {
        self.share.times(self.confidence)
    }
}
