//! When time zero of a trace was, on the machine's clocks.

use serde::Serialize;

/// Time zero of a trace, from which its times are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Clock {
    /// Microseconds since 1970; 0 if that is not known.
    pub wall_us: u64,
    /// Microseconds of `CLOCK_MONOTONIC` of the machine that recorded, to compare with other records of the same boot;
    /// 0 if that is not known.
    pub monotonic_us: u64,
}

impl Clock {
    /// All that a file of version 1.0 tells.
    pub fn from_started(seconds: u64) -> Self {
        Self { wall_us: seconds.saturating_mul(1_000_000), monotonic_us: 0 }
    }

    /// Seconds since 1970; 0 if that is not known.
    pub fn started(&self) -> u64 {
        self.wall_us / 1_000_000
    }
}

/// As JSON the clock comes with `started` beside it, which is what there was before the clock.
pub(super) fn with_started<S: serde::Serializer>(clock: &Clock, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Both<'a> {
        started: u64,
        clock: &'a Clock,
    }
    Both { started: clock.started(), clock }.serialize(serializer)
}
