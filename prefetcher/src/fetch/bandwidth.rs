//! Bytes a second: what may come, and what does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So much time of an unused limit is saved up, for timers are not exact.
const BURST: Duration = Duration::from_millis(20);

/// What comes is measured over times of this length.
const SPELL: Duration = Duration::from_millis(100);
/// A faster spell counts at once, a slower one so much: it may be that little was asked for.
const FADING: f64 = 0.1;

/// A limit for all that share it: a token bucket that is counted in time, which is when everything let through so far has
/// had its time. And a measure of what comes.
#[derive(Debug)]
pub struct Bandwidth {
    /// Bytes a second; none, no limit.
    limit: Option<u64>,
    free_at: Mutex<Instant>,
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
        let now = Instant::now();
        let measured = Measured { since: now, bytes: 0, rate: None };
        Self { limit, free_at: Mutex::new(now), measured: Mutex::new(measured) }
    }

    /// Bytes a second that came while something was coming, if that is known.
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).rate
    }

    /// Waits until the `bytes` that have come had their time. Not reading on meanwhile is what slows the sender down.
    pub async fn take(&self, bytes: u64) {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).came(Instant::now(), bytes);
        let Some(limit) = self.limit else { return };
        let through = self.reserve(Instant::now(), bytes, limit);
        tokio::time::sleep_until(through.into()).await;
    }

    fn reserve(&self, now: Instant, bytes: u64, limit: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *free_at = (*free_at).max(earliest) + Duration::from_secs_f64(bytes as f64 / limit.max(1) as f64);
        *free_at
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
    async fn bytes_of_all_take_their_time_and_idle_time_is_not_saved_up() {
        let bandwidth = Bandwidth::new(Some(10_000));
        let start = Instant::now() + Duration::from_secs(1);
        let until = |at: Instant| at.duration_since(start).as_millis();
        assert_eq!(until(bandwidth.reserve(start, 1000, 10_000)), 80);
        assert_eq!(until(bandwidth.reserve(start, 1000, 10_000)), 180);
        let later = start + Duration::from_secs(60);
        assert_eq!(bandwidth.reserve(later, 1000, 10_000), later + Duration::from_millis(80));
        // Without a limit nobody waits.
        Bandwidth::new(None).take(u64::MAX).await;
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
