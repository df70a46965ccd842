//! The monotonic clock that the kernel part stamps events with, and its relation to wall-clock time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bundles::trace::Clock;
use nix::time::{ClockId, clock_gettime};

/// The current time on the clock of `bpf_ktime_get_ns`.
pub(crate) fn now_ns() -> u64 {
    // Cannot fail: every Linux has this clock.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a trace whose time zero is `time_ns`.
pub(crate) fn trace_clock(time_ns: u64) -> Clock {
    let since = Duration::from_nanos(now_ns().saturating_sub(time_ns));
    let wall = SystemTime::now().checked_sub(since).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let wall_us = wall.and_then(|wall| u64::try_from(wall.as_micros()).ok()).unwrap_or_default();
    Clock { wall_us, monotonic_us: time_ns / 1000 }
}
