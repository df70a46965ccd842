//! Bandwidth: the node's limit, and a measurement of what is received.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::token_bucket::TokenBucket;

/// Received bytes are measured over intervals of this length.
const INTERVAL: Duration = Duration::from_millis(100);
/// Weight of a slower interval: perhaps little was requested. A faster interval counts at once.
const SLOWER_WEIGHT: f64 = 0.1;

/// The node's bandwidth limit, and the measured rate of downloads.
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
    /// At most `limit` bytes per second; no limit if `None`.
    pub fn new(limit: Option<u64>) -> Self {
        let measured = Measured { since: Instant::now(), bytes: 0, rate: None };
        Self { limit: TokenBucket::new(limit), measured: Mutex::new(measured) }
    }

    /// Bytes per second while something is received, if that is known.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.measured.lock().rate
    }

    /// Waits until the `bytes` that were received had their time, in the node's limit and in the request's. The sender slows down
    /// because nothing is read meanwhile.
    pub async fn take(&self, bytes: u64, request_limit: &TokenBucket) {
        self.measured.lock().received(Instant::now(), bytes);
        futures::join!(self.limit.spend(bytes), request_limit.spend(bytes));
    }
}

impl Measured {
    fn received(&mut self, now: Instant, bytes: u64) {
        let elapsed = now.saturating_duration_since(self.since);
        self.bytes += bytes;
        if elapsed < INTERVAL {
            return;
        }
        // A longer interval was idle in part.
        if elapsed < 2 * INTERVAL {
            let rate = self.bytes as f64 / elapsed.as_secs_f64();
            let known = self.rate.unwrap_or(rate);
            self.rate = Some(if rate > known { rate } else { known + SLOWER_WEIGHT * (rate - known) });
        }
        self.since = now;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn both_limits_hold_and_without_a_limit_nothing_waits() {
        for (node, own) in [(Some(100_000), None), (None, Some(100_000)), (Some(100_000), Some(1 << 40))] {
            let (bandwidth, own, started) = (Bandwidth::new(node), TokenBucket::new(own), Instant::now());
            bandwidth.take(10_000, &own).await;
            assert!(started.elapsed() >= Duration::from_millis(80), "{node:?} {own:?}");
        }
        Bandwidth::new(None).take(u64::MAX, &TokenBucket::new(None)).await;
    }

    #[test]
    fn the_rate_follows_fast_intervals_at_once_and_slow_ones_slowly() {
        let start = Instant::now();
        let mut measured = Measured { since: start, bytes: 0, rate: None };
        let mut at = |ms: u64, bytes: u64| {
            measured.received(start + Duration::from_millis(ms), bytes);
            measured.rate.map(|rate| rate.round() as u64)
        };
        assert_eq!(at(50, 1000), None);
        assert_eq!(at(100, 1000), Some(20_000));
        assert_eq!(at(200, 1000), Some(19_000));
        assert_eq!(at(900, 1), Some(19_000));
        assert_eq!(at(1000, 10_000), Some(100_000));
    }
}
