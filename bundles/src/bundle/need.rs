//! How much, and when, an object is expected to be needed.

use std::fmt;

use serde::Serialize;

use super::ProfileSet;
use crate::trace::Phase;

/// A part of a whole, in steps of one in 10,000: the same number on every machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The whole.
    pub const ALL: Self = Self(10_000);

    /// `part` of `whole`, rounded down, at most the whole; nothing of nothing.
    pub fn of(part: u64, whole: u64) -> Self {
        match u128::from(part.min(whole)) * 10_000 / u128::from(whole.max(1)) {
            parts @ 0..=10_000 => Self(parts as u16),
            _ => Self::ALL,
        }
    }

    /// From parts of 10,000; more than the whole is none.
    pub fn from_parts(parts: u16) -> Option<Self> {
        (parts <= Self::ALL.0).then_some(Self(parts))
    }

    /// In parts of 10,000.
    pub fn parts(self) -> u16 {
        self.0
    }

    /// This share of `other`.
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
    /// In how many traces it was used.
    pub used_in: u32,
    /// In what share of the starts it is used, as far as complete traces tell: an incomplete one may have missed it.
    pub share: Share,
    /// How sure that is. The whole for what was seen with this very image; less for what was carried over.
    pub confidence: Share,
    /// Microseconds from time zero of a trace to the first use, the earliest of all traces.
    pub first_us: u64,
    /// The same, as it is typically: the median.
    pub typical_us: u64,
    /// The part of a container's life in which that is.
    pub phase: Phase,
    /// The profiles whose part it is; none if it is of the common part.
    pub profiles: ProfileSet,
}

impl Need {
    /// What every start needs, before anything else.
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

    /// With what probability it is needed.
    pub fn expected(&self) -> Share {
        self.share.times(self.confidence)
    }
}
