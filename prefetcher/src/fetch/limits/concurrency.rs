//! How much is asked of one host at a time: as much as makes it faster, and no more.
//!
//! The window grows while answers begin as soon as they used to, and shrinks when they begin later, for then something on
//! the way is full: the line, the proxy, or this machine. The rule is that of Netflix' `Gradient2Limit`
//! (concurrency-limits, 2018): the new limit is the old one times the ratio of the long-term to the present time until the
//! first byte, plus a small queue. No rate or distance has to be configured, only the most connections. Until the first answer
//! that comes late, each one makes room for one more at least, as in TCP's slow start: a long line would be idle otherwise.
//!
//! Who waits is let in by priority, then in the order of asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Where a window begins. A proxy gives so many small objects in some 8 ms of a core; on a long line, half as many cost one
/// more round trip before all connections are in use.
const FIRST: f64 = 32.0;
/// It does not get smaller: even a line that is full carries this.
const LEAST: f64 = 2.0;
/// Answers may begin later by this factor before the window shrinks.
const TOLERANCE: f64 = 1.5;
/// One answer narrows the window by no more than this.
const STEEPEST: f64 = 0.5;
/// A window that late answers have made so narrow says that the host has too much to do. One late answer says nothing: a
/// proxy has some objects and has to ask for others.
const CROWDED: f64 = FIRST / 4.0;
/// How much one answer moves the limit.
const SMOOTHING: f64 = 0.2;
/// How much one answer moves the long-term time: an average of some hundred.
const LONG: f64 = 0.01;
/// Differences below this say nothing: timers and schedulers make them.
const NOISE: f64 = 0.002;

/// The window of one host.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: f64,
    most: f64,
    /// How much of the limit may be used.
    share: f64,
    /// When the host last showed that it has too much to do.
    too_much: Option<Instant>,
    in_flight: usize,
    /// No answer came late until now.
    opening: bool,
    /// Seconds until the first byte, on average.
    long: Option<f64>,
    /// By rank, then in the order of asking.
    waiting: BTreeMap<(u8, u64), oneshot::Sender<Permit>>,
    next: u64,
}

/// A place in a window; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    window: Option<ConcurrencyLimit>,
}

impl ConcurrencyLimit {
    /// A window with at most so many places.
    pub fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        let state = State {
            limit: FIRST.min(most),
            most,
            share: 1.0,
            too_much: None,
            in_flight: 0,
            opening: true,
            long: None,
            waiting: BTreeMap::new(),
            next: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a place. A smaller `rank` goes first.
    pub async fn enter(&self, rank: u8) -> Permit {
        let place = {
            let mut state = self.lock();
            if state.has_room() {
                state.in_flight += 1;
                return Permit { window: Some(self.clone()) };
            }
            let (sender, place) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.insert((rank, number), sender);
            place
        };
        // A sender is only dropped once it was used.
        place.await.unwrap_or(Permit { window: None })
    }

    /// The first byte of an answer came after `time`.
    pub fn answered(&self, time: Duration) {
        let mut state = self.lock();
        state.learn(time.as_secs_f64());
        self.let_in(&mut state);
    }

    /// An attempt failed in a way that says that the host, or the line to it, has too much to do.
    pub fn overloaded(&self) {
        let mut state = self.lock();
        state.limit = (state.limit / 2.0).max(LEAST.min(state.most));
        state.opening = false;
        state.too_much = Some(Instant::now());
    }

    /// How long ago the host last showed that it has too much to do, if it has.
    pub fn too_much(&self, now: Instant) -> Option<Duration> {
        self.lock().too_much.map(|at| now.saturating_duration_since(at))
    }

    /// Has so much of the window used, from 0 to 1; never less than a full line carries.
    pub fn set_share(&self, share: f64) {
        let mut state = self.lock();
        state.share = share.clamp(0.0, 1.0);
        self.let_in(&mut state);
    }

    /// How many places there are now.
    pub fn limit(&self) -> usize {
        self.lock().places()
    }

    /// How long answers take to begin, if one has.
    pub fn round_trip(&self) -> Option<Duration> {
        self.lock().long.map(Duration::from_secs_f64)
    }

    fn let_in(&self, state: &mut State) {
        while state.has_room() {
            let Some((_, sender)) = state.waiting.pop_first() else { return };
            match sender.send(Permit { window: Some(self.clone()) }) {
                Ok(()) => state.in_flight += 1,
                // Who waited has gone. The place must not give itself back, for that would lock again.
                Err(mut unwanted) => unwanted.window = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.in_flight < self.places()
    }

    fn places(&self) -> usize {
        (self.limit * self.share).max(LEAST.min(self.most)) as usize
    }

    fn learn(&mut self, now: f64) {
        let long = *self.long.get_or_insert(now);
        let gradient = ((TOLERANCE * long + NOISE) / now.max(1e-6)).clamp(STEEPEST, 1.0);
        self.long = Some(long + LONG * (now - long));
        // A window that is not used says nothing about a larger one.
        if self.in_flight * 2 < self.limit as usize && gradient >= 1.0 {
            return;
        }
        self.opening &= gradient >= 1.0;
        let wanted = self.limit * gradient + self.limit.sqrt();
        let step = SMOOTHING * (wanted - self.limit);
        let step = if self.opening { step.max(1.0) } else { step };
        self.limit = (self.limit + step).clamp(LEAST.min(self.most), self.most);
        if gradient < 1.0 && self.limit < CROWDED.min(self.most / 2.0) {
            self.too_much = Some(Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            let mut state = window.lock();
            state.in_flight -= 1;
            window.let_in(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Full, and `count` answers that each take `ms`.
    fn answers(window: &ConcurrencyLimit, ms: u64, count: usize) -> usize {
        for _ in 0..count {
            window.lock().in_flight = window.limit();
            window.answered(Duration::from_millis(ms));
        }
        window.limit()
    }

    #[test]
    fn it_grows_while_answers_come_as_soon_and_shrinks_when_they_come_late() {
        let window = ConcurrencyLimit::new(64);
        assert_eq!(answers(&window, 20, 200), 64);
        let narrow = answers(&window, 200, 30);
        assert!(narrow < 16, "{narrow}");
        assert!(answers(&window, 20, 200) > 48);
        window.overloaded();
        assert!(window.limit() < 40);
    }

    #[test]
    fn it_opens_quickly_until_an_answer_is_late() {
        let (window, first) = (ConcurrencyLimit::new(64), FIRST as usize);
        assert_eq!(answers(&window, 20, 4), first + 4);
        let narrow = answers(&window, 900, 20);
        let careful = answers(&window, 20, 4);
        assert!(narrow < first && careful < narrow + 4, "{narrow}, then {careful}");
    }

    #[test]
    fn a_host_that_keeps_answering_late_or_fails_has_too_much_to_do() {
        let window = ConcurrencyLimit::new(64);
        answers(&window, 20, 50);
        // One from far away, among many from near.
        answers(&window, 900, 1);
        assert_eq!(window.too_much(Instant::now()), None);
        let late = || _ = answers(&window, 2000, 40);
        for too_much in [&late as &dyn Fn(), &|| window.overloaded()] {
            window.lock().too_much = None;
            too_much();
            let now = Instant::now() + Duration::from_secs(5);
            assert!(window.too_much(now).unwrap() >= Duration::from_secs(5));
        }
    }

    #[tokio::test]
    async fn a_share_of_the_window_is_used_and_the_rest_waits_for_it_to_grow() {
        let window = ConcurrencyLimit::new(64);
        window.set_share(0.25);
        let quarter = FIRST as usize / 4;
        assert_eq!(window.limit(), quarter);
        let held: Vec<Permit> = futures::future::join_all((0..quarter).map(|_| window.enter(1))).await;
        let mut next = Box::pin(window.enter(1));
        assert!(futures::poll!(&mut next).is_pending());
        window.set_share(0.5);
        assert!(futures::poll!(&mut next).is_ready());
        drop(held);
        for (share, places) in [(0.0, 2), (1.0, 4 * quarter), (7.0, 4 * quarter)] {
            window.set_share(share);
            assert_eq!(window.limit(), places, "{share}");
        }
    }

    #[test]
    fn an_idle_window_does_not_grow_and_a_small_one_stays_small() {
        let window = ConcurrencyLimit::new(64);
        for _ in 0..100 {
            window.answered(Duration::from_millis(20));
        }
        assert_eq!(window.limit(), FIRST as usize);
        let one = ConcurrencyLimit::new(1);
        assert_eq!((answers(&one, 20, 100), answers(&one, 900, 100)), (1, 1));
    }

    #[tokio::test]
    async fn places_go_to_the_highest_priority_and_those_who_left_cost_none() {
        let window = ConcurrencyLimit::new(1);
        let held = window.enter(1).await;
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut gone = Box::pin(window.enter(0));
        assert!(futures::poll!(&mut gone).is_pending());
        for (rank, name) in [(2, "low"), (1, "first"), (1, "second"), (0, "high")] {
            let (window, sender) = (window.clone(), sender.clone());
            let mut wait = Box::pin(async move {
                let _place = window.enter(rank).await;
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
        assert_eq!(window.lock().in_flight, 0);
    }
}
