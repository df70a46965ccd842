//! How much of one connection may be on its way: as much as is kept, or what TCP's slow start allows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::LineSpec;

/// Bytes that may be on their way at most: enough for 400 MB/s at a delay of 10 ms, and about what Linux' usual receive
/// buffer (6 MiB with what it counts beside the bytes) lets a server send.
const MOST: usize = 4 << 20;
/// What a connection begins with: ten segments (RFC 6928).
const FIRST: usize = 10 * 1460;
/// The shortest time-out for retransmission beside the round trip. A connection that is silent for longer closes by half for
/// each (Linux, `tcp_slow_start_after_idle`).
const TIME_OUT: Duration = Duration::from_millis(200);

/// Bytes that have reached the receiver.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) bytes: usize,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Window {
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    /// Those of which the sender has not heard.
    unheard: VecDeque<Arrival>,
    on_the_way: usize,
    /// The most that was on its way since the connection was last idle.
    peak: usize,
    /// What slow start allows.
    opened: usize,
    sent: Option<Instant>,
}

impl Window {
    pub(super) fn new(arrivals: mpsc::UnboundedReceiver<Arrival>) -> Self {
        Self { arrivals, unheard: VecDeque::new(), on_the_way: 0, peak: 0, opened: FIRST, sent: None }
    }

    /// Waits for room, and tells how much there is; `None` if the receiver is gone.
    pub(super) async fn room(&mut self, spec: &LineSpec) -> Option<usize> {
        // The sender hears of an arrival half a round trip later.
        let back = if spec.slow_start { spec.round_trip / 2 } else { Duration::ZERO };
        loop {
            self.hear(Instant::now(), back);
            self.rest(Instant::now(), spec);
            let all = if spec.slow_start { self.opened } else { MOST };
            if self.on_the_way < all {
                return Some(all - self.on_the_way);
            }
            match self.unheard.front() {
                Some(arrival) => tokio::time::sleep_until((arrival.at + back).into()).await,
                None => {
                    let arrival = self.arrivals.recv().await?;
                    self.unheard.push_back(arrival);
                }
            }
        }
    }

    pub(super) fn send(&mut self, bytes: usize, now: Instant) {
        if self.on_the_way == 0 {
            self.peak = 0;
        }
        self.on_the_way += bytes;
        self.peak = self.peak.max(self.on_the_way);
        self.sent = Some(now);
    }

    fn hear(&mut self, now: Instant, back: Duration) {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.unheard.push_back(arrival);
        }
        while self.unheard.front().is_some_and(|arrival| arrival.at + back <= now)
            && let Some(arrival) = self.unheard.pop_front()
        {
            self.on_the_way -= arrival.bytes;
            // As Linux does it: only if what is open was used.
            if self.opened < 2 * self.peak {
                self.opened = (self.opened + arrival.bytes).min(MOST);
            }
        }
    }

    /// Closes by what a silent time costs.
    fn rest(&mut self, now: Instant, spec: &LineSpec) {
        let Some(sent) = self.sent.filter(|_| self.on_the_way == 0) else { return };
        let times = now.saturating_duration_since(sent).as_secs_f64() / (spec.round_trip + TIME_OUT).as_secs_f64();
        for _ in 0..(times as usize).min(usize::BITS as usize) {
            self.opened = (self.opened / 2).max(FIRST);
        }
        if times >= 1.0 {
            self.sent = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A window on a line of 100 ms, and the receiver's end.
    fn opening() -> (Window, LineSpec, mpsc::UnboundedSender<Arrival>) {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let spec = LineSpec { slow_start: true, ..LineSpec::with_round_trip(Duration::from_millis(100)) };
        (Window::new(arrivals), spec, sender)
    }

    #[tokio::test]
    async fn it_doubles_with_each_round_trip_while_it_is_used() {
        let (mut window, spec, arrivals) = opening();
        let long_ago = Instant::now() - Duration::from_millis(150);
        for round in 0..4 {
            let room = window.room(&spec).await.unwrap();
            assert_eq!(room, FIRST << round);
            window.send(room, Instant::now());
            arrivals.send(Arrival { bytes: room, at: long_ago }).unwrap();
        }
        // A few bytes need no wider one.
        for _ in 0..4 {
            assert_eq!(window.room(&spec).await.unwrap(), FIRST << 4);
            window.send(10, Instant::now());
            arrivals.send(Arrival { bytes: 10, at: long_ago }).unwrap();
        }
    }

    #[tokio::test]
    async fn the_sender_hears_of_an_arrival_half_a_round_trip_later() {
        let (mut window, spec, arrivals) = opening();
        window.send(FIRST, Instant::now());
        let at = Instant::now();
        arrivals.send(Arrival { bytes: 1, at }).unwrap();
        assert_eq!(window.room(&spec).await, Some(2));
        assert!(at.elapsed() >= spec.round_trip / 2);
        drop(arrivals);
        window.send(2, Instant::now());
        assert_eq!(window.room(&spec).await, None);
    }

    #[tokio::test]
    async fn silence_closes_it_and_a_line_without_slow_start_has_no_such_thing() {
        let (mut window, spec, _arrivals) = opening();
        window.opened = 8 * FIRST;
        let ago = |milliseconds| Some(Instant::now() - Duration::from_millis(milliseconds));
        for (silent, times) in [(10, 8), (400, 4), (60_000, 1)] {
            window.sent = ago(silent);
            assert_eq!(window.room(&spec).await, Some(times * FIRST), "{silent} ms");
            // Silence counts once.
            assert_eq!(window.room(&spec).await, Some(times * FIRST), "{silent} ms");
        }
        assert_eq!(window.room(&LineSpec { slow_start: false, ..spec }).await, Some(MOST));
    }
}
