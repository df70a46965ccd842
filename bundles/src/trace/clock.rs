//! Time zero of a trace on the machine's clocks.

use serde::Serialize;

use crate::codec::{Decode, Encode};

/// Time zero of a trace, on two clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Encode, Decode)]
#[bincode(crate = "crate::codec")]
pub struct Clock {
    /// Microseconds since 1970; 0 if unknown.
    pub wall_us: u64,
    /// Microseconds of `CLOCK_MONOTONIC` of the recording machine, for comparison with traces of the same
    /// boot; 0 if unknown.
    pub monotonic_us: u64,
}

impl Clock {
    /// The clock from a start time in seconds since 1970, which is all that files of version 1.0 have.
    pub fn from_started(seconds: u64) -> Self {
        Self { wall_us: seconds.saturating_mul(1_000_000), monotonic_us: 0 }
    }

    /// Seconds since 1970; 0 if unknown.
    pub fn started(&self) -> u64 {
        self.wall_us / 1_000_000
    }
}

/// Serializes the clock with `started` beside it, the field that JSON had before it had the clock.
pub(super) fn with_started<S: serde::Serializer>(clock: &Clock, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Both<'a> {
        started: u64,
        clock: &'a Clock,
    }
    Both { started: clock.started(), clock }.serialize(serializer)
}
