//! A bandwidth limit.

use std::time::{Duration, Instant};

/// How much unused bandwidth a link may accumulate, so that late timers do not lose any.
const BURST: Duration = Duration::from_millis(5);

/// Computes when bytes have passed a link with a given bandwidth.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// When everything accepted so far has passed.
    free_at: Option<Instant>,
}

impl Bucket {
    /// Accepts `bytes` at `now`; returns when they have passed.
    pub(super) fn reserve(&mut self, now: Instant, bytes: u64, bytes_per_second: Option<u64>) -> Instant {
        let Some(rate) = bytes_per_second else {
            return now;
        };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = self.free_at.map_or(earliest, |free_at| free_at.max(earliest));
        let through = begin + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.free_at = Some(through);
        through.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_sequentially_at_the_given_rate() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut bucket = Bucket::default();
        let ms = |t: Instant| t.duration_since(start).as_millis();
        assert_eq!(ms(bucket.reserve(start, 1000, Some(10_000))), 95);
        assert_eq!(ms(bucket.reserve(start, 1000, Some(10_000))), 195);
        let later = start + Duration::from_millis(150);
        assert_eq!(ms(bucket.reserve(later, 1000, Some(10_000))), 295);
        // Idle time does not accumulate bandwidth.
        let much_later = start + Duration::from_millis(10_000);
        assert_eq!(ms(bucket.reserve(much_later, 1000, Some(10_000))), 10_095);
        assert_eq!(bucket.reserve(much_later, 1_000_000, None), much_later);
    }
}
