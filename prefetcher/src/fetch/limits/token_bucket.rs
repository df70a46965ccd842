//! A rate limit in units per second, shared by all that use it.
//!
//! The token bucket is counted in time: [`TokenBucket`] knows when everything that it has admitted so far will have had its time.

use std::ops::Range;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Unused time that is saved up, because timers are not exact.
const BURST: Duration = Duration::from_millis(20);

/// A limit in units per second.
#[derive(Debug)]
pub struct TokenBucket {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// `None`: no limit.
    rate: Option<u64>,
    free_at: Instant,
}

impl TokenBucket {
    /// At most `rate` units per second; no limit if `None`.
    pub fn new(rate: Option<u64>) -> Self {
        Self { state: Mutex::new(State { rate, free_at: Instant::now() }), changed: Notify::new() }
    }

    /// Units per second; `None` without a limit.
    pub fn rate(&self) -> Option<u64> {
        self.state.lock().rate
    }

    /// Sets another limit. Callers that wait for the old one continue at once.
    pub fn set_rate(&self, rate: Option<u64>) {
        *self.state.lock() = State { rate, free_at: Instant::now() };
        self.changed.notify_waiters();
    }

    /// Waits until one more unit may start.
    pub async fn acquire(&self) {
        if let Some(time) = self.reserve(Instant::now(), 1) {
            tokio::time::sleep_until(time.start.into()).await;
        }
    }

    /// Waits until `units` that were received have had their time.
    pub async fn spend(&self, units: u64) {
        // Registered before the limit is read, so that no change of it is missed.
        let changed = self.changed.notified();
        if let Some(time) = self.reserve(Instant::now(), units) {
            tokio::select! {
                () = tokio::time::sleep_until(time.end.into()) => {}
                () = changed => {}
            }
        }
    }

    /// Reserves the time of `units` after all earlier reservations; none without a limit.
    fn reserve(&self, now: Instant, units: u64) -> Option<Range<Instant>> {
        let mut state = self.state.lock();
        let rate = state.rate?.max(1);
        let start = state.free_at.max(now.checked_sub(BURST).unwrap_or(now));
        state.free_at = start + Duration::from_secs_f64(units as f64 / rate as f64);
        Some(start..state.free_at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_take_their_time_and_idle_time_is_not_saved_up() {
        let bucket = TokenBucket::new(Some(10_000));
        let start = Instant::now() + Duration::from_secs(1);
        let until = |at: Instant| at.duration_since(start).as_millis();
        assert_eq!(until(bucket.reserve(start, 1000).unwrap().end), 80);
        let second = bucket.reserve(start, 1000).unwrap();
        assert_eq!((until(second.start), until(second.end)), (80, 180));
        let later = start + Duration::from_secs(60);
        assert_eq!(bucket.reserve(later, 1000).unwrap().end, later + Duration::from_millis(80));
        bucket.set_rate(Some(1000));
        assert_eq!(bucket.reserve(later, 1000).unwrap().end, later + Duration::from_millis(980));
        bucket.set_rate(None);
        assert_eq!(bucket.reserve(later, u64::MAX), None);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_limit_changes() {
        let bucket = TokenBucket::new(Some(1));
        // Hours.
        let mut waiting = Box::pin(bucket.spend(10_000));
        assert!(futures::poll!(&mut waiting).is_pending());
        bucket.set_rate(None);
        waiting.await;
    }

    #[test]
    fn no_second_starts_more_units_than_the_limit() {
        let bucket = TokenBucket::new(Some(50));
        let now = Instant::now() + Duration::from_secs(1);
        let starts: Vec<Instant> = (0..500).map(|_| bucket.reserve(now, 1).unwrap().start).collect();
        // One more: the units at both ends of the second.
        for window in starts.windows(52) {
            assert!(window[51] - window[0] > Duration::from_secs(1));
        }
    }
}
