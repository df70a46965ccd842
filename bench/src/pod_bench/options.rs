//! Options of `make bench-pod`.

/// `make bench-pod`.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Short run: one repetition
    #[arg(long)]
    pub quick: bool,
    /// Repetitions [default: 3, or 1 with --quick]
    #[arg(long)]
    pub repetitions: Option<usize>,
    /// Measure only at this round trip, in milliseconds; may be repeated [default: 0, 20 and 50]
    #[arg(long, value_name = "MS")]
    pub round_trip: Vec<u64>,
}

impl Options {
    pub(super) fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub(super) fn round_trips(&self) -> &[u64] {
        if self.round_trip.is_empty() { &[0, 20, 50] } else { &self.round_trip }
    }
}
