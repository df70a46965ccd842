//! Options of `make bench-prefetch`.

use super::method::Method;
use crate::condition::Condition;

/// 200 Mbit/s, in bytes.
const SLOW: u64 = 25_000_000;

/// `make bench-prefetch`.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Short run: round trips of 0 and 20 ms, one repetition, fewer methods
    #[arg(long)]
    pub quick: bool,
    /// Measure every round trip also with squid and with a bandwidth limit
    #[arg(long)]
    pub full: bool,
    /// Measure a second image of 5,000 files, 400 MB
    #[arg(long)]
    pub large: bool,
    /// Repetitions [default: 3, or 1 with --quick]
    #[arg(long)]
    pub repetitions: Option<usize>,
    /// Measure only the times of this method; may be repeated
    #[arg(long, value_enum)]
    pub method: Vec<Method>,
    /// Measure only at this round trip, in milliseconds; may be repeated
    #[arg(long, value_name = "MS")]
    pub round_trip: Vec<u64>,
    /// Emulate TCP slow start on the link
    #[arg(long)]
    pub slow_start: bool,
    /// Add a line to the daemon's configuration; may be repeated
    #[arg(long, value_name = "KEY = VALUE")]
    pub daemon: Vec<String>,
}

impl Options {
    pub(super) fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// The measured methods.
    pub(super) fn methods(&self) -> Vec<Method> {
        if !self.method.is_empty() {
            self.method.clone()
        } else if self.quick {
            vec![Method::Readers16, Method::Objects, Method::Packs, Method::Limit]
        } else {
            Method::ALL.into()
        }
    }

    /// The measured conditions, the shortest round trip first.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let slow_start = self.slow_start;
        self.links().into_iter().map(|link| Condition { slow_start, ..link }).collect()
    }

    fn links(&self) -> Vec<Condition> {
        if !self.round_trip.is_empty() {
            return self.round_trip.iter().map(|ms| Condition::latency(*ms)).collect();
        }
        let round_trips: &[u64] = if self.quick { &[0, 20] } else { &[0, 5, 20, 50, 100] };
        let mut conditions: Vec<Condition> = round_trips.iter().map(|ms| Condition::latency(*ms)).collect();
        for ms in round_trips.iter().copied().filter(|ms| self.full || (*ms == 20 && !self.quick)) {
            conditions.push(Condition { squid: true, ..Condition::latency(ms) });
            conditions.push(Condition { bytes_per_second: Some(SLOW), ..Condition::latency(ms) });
            if self.full {
                conditions.push(Condition { squid: true, bytes_per_second: Some(SLOW), ..Condition::latency(ms) });
            }
        }
        conditions
    }
}
