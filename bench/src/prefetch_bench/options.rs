//! What is measured, and how often.

use super::ways::Way;
use crate::condition::Condition;

/// 200 Mbit/s, in bytes.
const SLOW: u64 = 25_000_000;

/// `make bench-prefetch`.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Round trips of 0 and 20 ms, one repetition, fewer ways
    #[arg(long)]
    pub quick: bool,
    /// Every round trip with and without squid and with a limit of bandwidth
    #[arg(long)]
    pub full: bool,
    /// A second image of 5,000 files, 400 MB
    #[arg(long)]
    pub large: bool,
    /// How often everything is repeated; 3, or 1 with --quick
    #[arg(long)]
    pub repetitions: Option<usize>,
    /// Only these ways, and nothing but their times
    #[arg(long, value_enum)]
    pub way: Vec<Way>,
    /// Only at these round trips, in milliseconds
    #[arg(long, value_name = "MS")]
    pub round_trip: Vec<u64>,
    /// Connections over the line open as slowly as TCP's do
    #[arg(long)]
    pub slow_start: bool,
    /// A further line of the daemon's configuration
    #[arg(long, value_name = "KEY = VALUE")]
    pub daemon: Vec<String>,
}

impl Options {
    pub(super) fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Which ways are measured.
    pub(super) fn ways(&self) -> Vec<Way> {
        match (self.way.is_empty(), self.quick) {
            (false, _) => self.way.clone(),
            (true, true) => vec![Way::Readers16, Way::Objects, Way::Packs, Way::Limit],
            (true, false) => Way::ALL.into(),
        }
    }

    /// Between which everything is measured, the nearest first.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let slow_start = self.slow_start;
        self.lines().into_iter().map(|line| Condition { slow_start, ..line }).collect()
    }

    fn lines(&self) -> Vec<Condition> {
        if !self.round_trip.is_empty() {
            return self.round_trip.iter().map(|ms| Condition::of(*ms)).collect();
        }
        let far: &[u64] = if self.quick { &[0, 20] } else { &[0, 5, 20, 50, 100] };
        let mut conditions: Vec<Condition> = far.iter().map(|ms| Condition::of(*ms)).collect();
        for ms in far.iter().copied().filter(|ms| self.full || (*ms == 20 && !self.quick)) {
            conditions.push(Condition { squid: true, ..Condition::of(ms) });
            conditions.push(Condition { bytes_per_second: Some(SLOW), ..Condition::of(ms) });
            if self.full {
                conditions.push(Condition { squid: true, bytes_per_second: Some(SLOW), ..Condition::of(ms) });
            }
        }
        conditions
    }
}
