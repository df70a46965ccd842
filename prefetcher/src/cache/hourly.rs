//! How many bytes were written during the last hour.

use std::time::{Duration, Instant};

/// Writes are added up in parts of this time.
const PART: Duration = Duration::from_secs(300);
/// The current part and those of the hour before.
const PARTS: usize = 13;

/// Bytes written during the last hour, and at most a [`PART`] before.
#[derive(Debug)]
pub(super) struct Hourly {
    start: Instant,
    /// Number of the part that was last written to, from the start.
    last: u64,
    parts: [u64; PARTS],
}

impl Hourly {
    /// Nothing was written yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, last: 0, parts: [0; PARTS] }
    }

    /// Returns the bytes written during the hour before `now`.
    pub(super) fn written(&mut self, now: Instant) -> u64 {
        self.advance(now);
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Adds bytes that were written.
    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        let part = &mut self.parts[(self.last % PARTS as u64) as usize];
        *part = part.saturating_add(bytes);
    }

    /// Forgets the parts that are older than an hour.
    fn advance(&mut self, now: Instant) {
        let part = now.saturating_duration_since(self.start).as_secs() / PART.as_secs();
        for old in (self.last..part).take(PARTS) {
            self.parts[((old + 1) % PARTS as u64) as usize] = 0;
        }
        self.last = self.last.max(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_forgotten_after_an_hour() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut hourly = Hourly::new(start);
        hourly.add(at(0), 1);
        hourly.add(at(3), 2);
        hourly.add(at(30), 4);
        hourly.add(at(54), u64::MAX / 2);
        assert_eq!(hourly.written(at(63)), u64::MAX / 2 + 7);
        assert_eq!(hourly.written(at(65)), u64::MAX / 2 + 4);
        assert_eq!(hourly.written(at(95)), u64::MAX / 2);
        hourly.add(at(96), 8);
        assert_eq!(hourly.written(at(156)), 8);
        // Clocks do not run backwards, but callers may.
        assert_eq!(hourly.written(at(150)), 8);
        assert_eq!(hourly.written(at(10_000)), 0);
    }
}
