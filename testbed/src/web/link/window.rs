//! The congestion window of one connection: fixed, or grown by TCP slow start.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::LinkSpec;

/// Largest window: enough for 400 MB/s at a delay of 10 ms, and about what Linux' usual receive buffer (6 MiB including
/// overhead) permits.
const MAXIMUM: usize = 4 << 20;
/// Initial window: ten segments (RFC 6928).
const INITIAL: usize = 10 * 1460;
/// Minimum retransmission timeout beyond the round trip. The window of an idle connection is halved per timeout (Linux,
/// `tcp_slow_start_after_idle`).
const RETRANSMISSION_TIMEOUT: Duration = Duration::from_millis(200);

/// Bytes that have reached the receiver.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) bytes: usize,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Window {
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    /// Arrivals that the sender has not been acknowledged yet.
    unacknowledged: VecDeque<Arrival>,
    in_flight: usize,
    /// Largest number of bytes in flight since the connection was last idle.
    peak: usize,
    /// Window permitted by slow start.
    opened: usize,
    sent: Option<Instant>,
}

impl Window {
    pub(super) fn new(arrivals: mpsc::UnboundedReceiver<Arrival>) -> Self {
        Self { arrivals, unacknowledged: VecDeque::new(), in_flight: 0, peak: 0, opened: INITIAL, sent: None }
    }

    /// Waits until the window permits sending; returns how many bytes. `None` if the receiver is gone.
    pub(super) async fn available(&mut self, spec: &LinkSpec) -> Option<usize> {
        // Acknowledgements take half a round trip.
        let back = if spec.slow_start { spec.round_trip / 2 } else { Duration::ZERO };
        loop {
            self.acknowledge(Instant::now(), back);
            self.decay(Instant::now(), spec);
            let all = if spec.slow_start { self.opened } else { MAXIMUM };
            if self.in_flight < all {
                return Some(all - self.in_flight);
            }
            match self.unacknowledged.front() {
                Some(arrival) => tokio::time::sleep_until((arrival.at + back).into()).await,
                None => {
                    let arrival = self.arrivals.recv().await?;
                    self.unacknowledged.push_back(arrival);
                }
            }
        }
    }

    pub(super) fn send(&mut self, bytes: usize, now: Instant) {
        if self.in_flight == 0 {
            self.peak = 0;
        }
        self.in_flight += bytes;
        self.peak = self.peak.max(self.in_flight);
        self.sent = Some(now);
    }

    fn acknowledge(&mut self, now: Instant, back: Duration) {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.unacknowledged.push_back(arrival);
        }
        while self.unacknowledged.front().is_some_and(|arrival| arrival.at + back <= now)
            && let Some(arrival) = self.unacknowledged.pop_front()
        {
            self.in_flight -= arrival.bytes;
            // Like Linux, the window grows only if it was used.
            if self.opened < 2 * self.peak {
                self.opened = (self.opened + arrival.bytes).min(MAXIMUM);
            }
        }
    }

    /// Shrinks the window after an idle time.
    fn decay(&mut self, now: Instant, spec: &LinkSpec) {
        let Some(sent) = self.sent.filter(|_| self.in_flight == 0) else { return };
        let times = now.saturating_duration_since(sent).as_secs_f64()
            / (spec.round_trip + RETRANSMISSION_TIMEOUT).as_secs_f64();
        for _ in 0..(times as usize).min(usize::BITS as usize) {
            self.opened = (self.opened / 2).max(INITIAL);
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

    /// A window on a link with a round trip of 100 ms, and the sender of arrivals.
    fn opening() -> (Window, LinkSpec, mpsc::UnboundedSender<Arrival>) {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let spec = LinkSpec { slow_start: true, ..LinkSpec::with_round_trip(Duration::from_millis(100)) };
        (Window::new(arrivals), spec, sender)
    }

    #[tokio::test]
    async fn the_window_doubles_per_round_trip_while_used() {
        let (mut window, spec, arrivals) = opening();
        let long_ago = Instant::now() - Duration::from_millis(150);
        for round in 0..4 {
            let room = window.available(&spec).await.unwrap();
            assert_eq!(room, INITIAL << round);
            window.send(room, Instant::now());
            arrivals.send(Arrival { bytes: room, at: long_ago }).unwrap();
        }
        // Few bytes do not grow the window.
        for _ in 0..4 {
            assert_eq!(window.available(&spec).await.unwrap(), INITIAL << 4);
            window.send(10, Instant::now());
            arrivals.send(Arrival { bytes: 10, at: long_ago }).unwrap();
        }
    }

    #[tokio::test]
    async fn acknowledgements_take_half_a_round_trip() {
        let (mut window, spec, arrivals) = opening();
        window.send(INITIAL, Instant::now());
        let at = Instant::now();
        arrivals.send(Arrival { bytes: 1, at }).unwrap();
        assert_eq!(window.available(&spec).await, Some(2));
        assert!(at.elapsed() >= spec.round_trip / 2);
        drop(arrivals);
        window.send(2, Instant::now());
        assert_eq!(window.available(&spec).await, None);
    }

    #[tokio::test]
    async fn idle_time_shrinks_the_window_only_with_slow_start() {
        let (mut window, spec, _arrivals) = opening();
        window.opened = 8 * INITIAL;
        let ago = |milliseconds| Some(Instant::now() - Duration::from_millis(milliseconds));
        for (silent, times) in [(10, 8), (400, 4), (60_000, 1)] {
            window.sent = ago(silent);
            assert_eq!(window.available(&spec).await, Some(times * INITIAL), "{silent} ms");
            // An idle time counts only once.
            assert_eq!(window.available(&spec).await, Some(times * INITIAL), "{silent} ms");
        }
        assert_eq!(window.available(&LinkSpec { slow_start: false, ..spec }).await, Some(MAXIMUM));
    }
}
