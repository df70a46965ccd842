//! Bytes a second: what may come, and what does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::token_bucket::TokenBucket;

/// What comes is measured over times of this length.
const SPELL: Duration = Duration::from_millis(100);
/// A faster spell counts at once, a slower one so much: it may be that little was asked for.
const FADING: f64 = 0.1;

/// The node's limit, and a measure of what comes.
#[derive(Debug)]
pub struct Bandwidth {
    limit: TokenBucket,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    since: Instant,
    bytes: u64,
    rate: Option<f64>,
}

impl Bandwidth {
    /// So many bytes a second.
    pub fn new(limit: Option<u64>) -> Self {
        let measured = Measured { since: Instant::now(), bytes: 0, rate: None };
        Self { limit: TokenBucket::new(limit), measured: Mutex::new(measured) }
    }

    /// Bytes a second that came while something was coming, if that is known.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).rate
    }

    /// Waits until the `bytes` that have come had their time, here and in the limit of who asked for them. Not reading on
    /// meanwhile is what slows the sender down.
    pub async fn take(&self, bytes: u64, own: &TokenBucket) {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).came(Instant::now(), bytes);
        futures::join!(self.limit.spend(bytes), own.spend(bytes));
    }
}

impl Measured {
    fn came(&mut self, now: Instant, bytes: u64) {
        let spell = now.saturating_duration_since(self.since);
        self.bytes += bytes;
        if spell < SPELL {
            return;
        }
        // A longer one was idle in part.
        if spell < 2 * SPELL {
            let rate = self.bytes as f64 / spell.as_secs_f64();
            let known = self.rate.unwrap_or(rate);
            self.rate = Some(if rate > known { rate } else { known + FADING * (rate - known) });
        }
        (self.since, self.bytes) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn both_limits_hold_and_without_one_nobody_waits() {
        for (node, own) in [(Some(100_000), None), (None, Some(100_000)), (Some(100_000), Some(1 << 40))] {
            let (bandwidth, own, started) = (Bandwidth::new(node), TokenBucket::new(own), Instant::now());
            bandwidth.take(10_000, &own).await;
            assert!(started.elapsed() >= Duration::from_millis(80), "{node:?} {own:?}");
        }
        Bandwidth::new(None).take(u64::MAX, &TokenBucket::new(None)).await;
    }

    #[test]
    fn a_fast_spell_is_known_at_once_a_slow_one_slowly_and_an_idle_one_not_at_all() {
        let start = Instant::now();
        let mut measured = Measured { since: start, bytes: 0, rate: None };
        let mut at = |ms: u64, bytes: u64| {
            measured.came(start + Duration::from_millis(ms), bytes);
            measured.rate.map(|rate| rate.round() as u64)
        };
        assert_eq!(at(50, 1000), None);
        assert_eq!(at(100, 1000), Some(20_000));
        assert_eq!(at(200, 1000), Some(19_000));
        assert_eq!(at(900, 1), Some(19_000));
        assert_eq!(at(1000, 10_000), Some(100_000));
    }
}
