//! Number of connections to one proxy or server at a time: as many as make downloads faster.
//!
//! The limit grows while round trips stay as short as they were, and shrinks when they become longer, because then something is
//! saturated: the link, the proxy or this machine. The rule is that of Netflix' `Gradient2Limit` (concurrency-limits, 2018): the
//! new limit is the old one times the ratio of the long-term to the present round trip, plus a small queue. No rate or distance
//! has to be configured, only the maximum. Until the first late response, each response raises the limit by at least one, as in
//! TCP's slow start; otherwise a long link would be idle.
//!
//! Callers that wait are admitted by rank, then in the order of their calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// Initial limit. A proxy serves this many small objects in some 8 ms of a core; on a long link, half as many would cost one more
/// round trip before all connections are in use.
const INITIAL: f64 = 32.0;
/// Minimum limit: even a saturated link carries this.
const MIN: f64 = 2.0;
/// Round trips may be longer by this factor before the limit shrinks.
const TOLERANCE: f64 = 1.5;
/// Minimum factor that one response applies to the limit.
const MIN_GRADIENT: f64 = 0.5;
/// Below this limit, late responses mean that the host is overloaded. A single late response does not: a proxy has some objects and
/// has to download others.
const OVERLOADED_BELOW: f64 = INITIAL / 4.0;
/// Weight of one response in the limit.
const SMOOTHING: f64 = 0.2;
/// Weight of one response in the long-term round trip, which averages some hundred.
const LONG_TERM_WEIGHT: f64 = 0.01;
/// Differences in seconds that come from timers and schedulers.
const NOISE: f64 = 0.002;

/// The limit of one proxy or server. Clones share it.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: f64,
    max: f64,
    /// Share of the limit that may be used.
    share: f64,
    /// When the host last showed that it is overloaded.
    overloaded_at: Option<Instant>,
    in_flight: usize,
    /// No response was late until now.
    slow_start: bool,
    /// Average round trip in seconds.
    long_term: Option<f64>,
    /// By rank, then in the order of the calls.
    waiting: BTreeMap<(u8, u64), oneshot::Sender<Permit>>,
    next_number: u64,
}

/// Permission to use a connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    limit: Option<ConcurrencyLimit>,
}

impl ConcurrencyLimit {
    /// A limit that is never above `max`.
    pub fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        let state = State {
            limit: INITIAL.min(max),
            max,
            share: 1.0,
            overloaded_at: None,
            in_flight: 0,
            slow_start: true,
            long_term: None,
            waiting: BTreeMap::new(),
            next_number: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a permit. A smaller `rank` goes first.
    pub async fn acquire(&self, rank: u8) -> Permit {
        let permit = {
            let mut state = self.lock();
            if state.has_permits() {
                state.in_flight += 1;
                return Permit { limit: Some(self.clone()) };
            }
            let (sender, permit) = oneshot::channel();
            let number = state.next_number;
            state.next_number += 1;
            state.waiting.insert((rank, number), sender);
            permit
        };
        // A sender is dropped only after it was used.
        permit.await.unwrap_or(Permit { limit: None })
    }

    /// Adjusts the limit: the first byte of a response arrived after `round_trip`.
    pub fn record_round_trip(&self, round_trip: Duration) {
        let mut state = self.lock();
        state.record_round_trip(round_trip.as_secs_f64());
        self.admit_waiting(&mut state);
    }

    /// Halves the limit: an attempt failed in a way that shows that the host, or the link to it, is overloaded.
    pub fn record_overload(&self) {
        let mut state = self.lock();
        state.limit = (state.limit / 2.0).max(MIN.min(state.max));
        state.slow_start = false;
        state.overloaded_at = Some(Instant::now());
    }

    /// Returns how long ago the host last showed that it is overloaded, if ever.
    pub fn last_overload(&self, now: Instant) -> Option<Duration> {
        self.lock().overloaded_at.map(|at| now.saturating_duration_since(at))
    }

    /// Sets the share of the limit that may be used, from 0 to 1. It is never less than a saturated link carries.
    pub fn set_share(&self, share: f64) {
        let mut state = self.lock();
        state.share = share.clamp(0.0, 1.0);
        self.admit_waiting(&mut state);
    }

    /// Returns the number of permits.
    pub fn permits(&self) -> usize {
        self.lock().permits()
    }

    /// Returns the average round trip, once there was a response.
    pub fn round_trip(&self) -> Option<Duration> {
        self.lock().long_term.map(Duration::from_secs_f64)
    }

    fn admit_waiting(&self, state: &mut State) {
        while state.has_permits() {
            let Some((_, sender)) = state.waiting.pop_first() else { return };
            match sender.send(Permit { limit: Some(self.clone()) }) {
                Ok(()) => state.in_flight += 1,
                // The caller does not wait any more. The permit must not give itself back, which would lock again.
                Err(mut unused) => unused.limit = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn has_permits(&self) -> bool {
        self.in_flight < self.permits()
    }

    fn permits(&self) -> usize {
        (self.limit * self.share).max(MIN.min(self.max)) as usize
    }

    fn record_round_trip(&mut self, now: f64) {
        let long_term = *self.long_term.get_or_insert(now);
        let gradient = ((TOLERANCE * long_term + NOISE) / now.max(1e-6)).clamp(MIN_GRADIENT, 1.0);
        self.long_term = Some(long_term + LONG_TERM_WEIGHT * (now - long_term));
        // A limit that is not used says nothing about a larger one.
        if self.in_flight * 2 < self.limit as usize && gradient >= 1.0 {
            return;
        }
        self.slow_start &= gradient >= 1.0;
        let target = self.limit * gradient + self.limit.sqrt();
        let step = SMOOTHING * (target - self.limit);
        let step = if self.slow_start { step.max(1.0) } else { step };
        self.limit = (self.limit + step).clamp(MIN.min(self.max), self.max);
        if gradient < 1.0 && self.limit < OVERLOADED_BELOW.min(self.max / 2.0) {
            self.overloaded_at = Some(Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limit) = self.limit.take() {
            let mut state = limit.lock();
            state.in_flight -= 1;
            limit.admit_waiting(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The number of permits after `count` responses of a saturated limit that each take `ms`.
    fn after_responses(limit: &ConcurrencyLimit, ms: u64, count: usize) -> usize {
        for _ in 0..count {
            limit.lock().in_flight = limit.permits();
            limit.record_round_trip(Duration::from_millis(ms));
        }
        limit.permits()
    }

    #[test]
    fn the_limit_grows_while_round_trips_are_short_and_shrinks_when_long() {
        let limit = ConcurrencyLimit::new(64);
        assert_eq!(after_responses(&limit, 20, 200), 64);
        let narrow = after_responses(&limit, 200, 30);
        assert!(narrow < 16, "{narrow}");
        assert!(after_responses(&limit, 20, 200) > 48);
        limit.record_overload();
        assert!(limit.permits() < 40);
    }

    #[test]
    fn the_limit_grows_quickly_until_a_response_is_late() {
        let (limit, first) = (ConcurrencyLimit::new(64), INITIAL as usize);
        assert_eq!(after_responses(&limit, 20, 4), first + 4);
        let narrow = after_responses(&limit, 900, 20);
        let careful = after_responses(&limit, 20, 4);
        assert!(narrow < first && careful < narrow + 4, "{narrow}, then {careful}");
    }

    #[test]
    fn late_responses_and_failures_show_an_overload() {
        let limit = ConcurrencyLimit::new(64);
        after_responses(&limit, 20, 50);
        // One late response among many.
        after_responses(&limit, 900, 1);
        assert_eq!(limit.last_overload(Instant::now()), None);
        let late = || _ = after_responses(&limit, 2000, 40);
        for overload in [&late as &dyn Fn(), &|| limit.record_overload()] {
            limit.lock().overloaded_at = None;
            overload();
            let now = Instant::now() + Duration::from_secs(5);
            assert!(limit.last_overload(now).unwrap() >= Duration::from_secs(5));
        }
    }

    #[tokio::test]
    async fn only_the_share_of_the_limit_is_used() {
        let limit = ConcurrencyLimit::new(64);
        limit.set_share(0.25);
        let quarter = INITIAL as usize / 4;
        assert_eq!(limit.permits(), quarter);
        let held: Vec<Permit> = futures::future::join_all((0..quarter).map(|_| limit.acquire(1))).await;
        let mut next = Box::pin(limit.acquire(1));
        assert!(futures::poll!(&mut next).is_pending());
        limit.set_share(0.5);
        assert!(futures::poll!(&mut next).is_ready());
        drop(held);
        for (share, permits) in [(0.0, 2), (1.0, 4 * quarter), (7.0, 4 * quarter)] {
            limit.set_share(share);
            assert_eq!(limit.permits(), permits, "{share}");
        }
    }

    #[test]
    fn an_idle_limit_does_not_grow() {
        let limit = ConcurrencyLimit::new(64);
        for _ in 0..100 {
            limit.record_round_trip(Duration::from_millis(20));
        }
        assert_eq!(limit.permits(), INITIAL as usize);
        let single = ConcurrencyLimit::new(1);
        assert_eq!((after_responses(&single, 20, 100), after_responses(&single, 900, 100)), (1, 1));
    }

    #[tokio::test]
    async fn permits_go_by_rank_and_skip_callers_that_left() {
        let limit = ConcurrencyLimit::new(1);
        let held = limit.acquire(1).await;
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut gone = Box::pin(limit.acquire(0));
        assert!(futures::poll!(&mut gone).is_pending());
        for (rank, name) in [(2, "low"), (1, "first"), (1, "second"), (0, "high")] {
            let (limit, sender) = (limit.clone(), sender.clone());
            let mut wait = Box::pin(async move {
                let _permit = limit.acquire(rank).await;
                sender.send(name).unwrap();
            });
            assert!(futures::poll!(&mut wait).is_pending());
            tokio::spawn(wait);
        }
        drop((gone, held, sender));
        let mut names = Vec::new();
        while let Some(name) = order.recv().await {
            names.push(name);
        }
        assert_eq!(names, ["high", "first", "second", "low"]);
        assert_eq!(limit.lock().in_flight, 0);
    }
}
