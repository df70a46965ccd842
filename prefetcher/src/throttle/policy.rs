//! Which share of its connections the daemon may use, depending on how soon a CVMFS client answers.
//!
//! Every late answer halves the share, down to an eighth; every answer in time adds a step. An answer is late if it takes several times
//! the usual time and long enough to matter. A single late answer may come from the scheduler and changes nothing.

use std::time::Duration;

/// Seconds within which an answer is never late, because no container notices.
const UNNOTICED: f64 = 0.020;
/// An answer is late at this multiple of the usual time.
const LATE: f64 = 4.0;
/// How far one slower answer raises the usual time: a time that lasts for minutes becomes the usual one. A faster answer lowers it at once.
const DRIFT: f64 = 0.001;
/// The share without throttling.
const FULL: f64 = 1.0;
/// The smallest share.
const LEAST: f64 = 0.125;
/// What an answer in time adds to the share.
const STEP: f64 = 0.125;

/// The state of one client.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Usual time of an answer in seconds.
    usual: Option<f64>,
    share: f64,
    was_late: bool,
}

impl Policy {
    /// No answer yet.
    pub(super) fn new() -> Self {
        Self { usual: None, share: FULL, was_late: false }
    }

    /// The client answered after `time`, or has not answered for that time. Returns the share that may be used now.
    pub(super) fn answered(&mut self, time: Duration) -> f64 {
        let now = time.as_secs_f64();
        let usual = *self.usual.get_or_insert(now);
        let is_late = now > UNNOTICED.max(LATE * usual);
        self.usual = Some(if now < usual { now } else { usual + DRIFT * (now - usual) });
        match (is_late, self.was_late) {
            (true, true) => self.share = (self.share / 2.0).max(LEAST),
            (true, false) => {}
            (false, _) => self.share = (self.share + STEP).min(FULL),
        }
        self.was_late = is_late;
        self.share
    }

    /// The share that may be used after the last answer.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// There is no client, or it hangs: nothing to give way to. The usual time stays known.
    pub(super) fn unknown(&mut self) -> f64 {
        (self.share, self.was_late) = (FULL, false);
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shares after answers that take these times in milliseconds.
    fn shares(times: &[u64]) -> Vec<f64> {
        let mut policy = Policy::new();
        times.iter().map(|ms| policy.answered(Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn late_answers_halve_the_share_and_prompt_ones_give_it_back() {
        for (times, expected) in [
            // Slower, but not noticeable.
            (&[1, 19, 19, 19][..], &[1.0, 1.0, 1.0, 1.0][..]),
            // A single late answer.
            (&[1, 300, 1, 300, 1], &[1.0, 1.0, 1.0, 1.0, 1.0]),
            (&[1, 30, 30, 30, 30, 30], &[1.0, 1.0, 0.5, 0.25, 0.125, 0.125]),
            (&[1, 30, 30, 1, 1, 1, 1, 1], &[1.0, 1.0, 0.5, 0.625, 0.75, 0.875, 1.0, 1.0]),
            // An answer is not late if it always takes that long; a faster answer is noted at once.
            (&[100, 110, 390, 390], &[1.0, 1.0, 1.0, 1.0]),
            (&[100, 1, 100, 100], &[1.0, 1.0, 1.0, 0.5]),
        ] {
            assert_eq!(shares(times), expected, "{times:?}");
        }
    }

    #[test]
    fn a_time_that_lasts_for_minutes_becomes_the_usual_one() {
        let mut policy = Policy::new();
        policy.answered(Duration::from_millis(1));
        let late = |policy: &mut Policy| policy.answered(Duration::from_millis(200));
        assert!((0..100).all(|n| late(&mut policy) < 1.0 || n == 0));
        assert_eq!(policy.unknown(), 1.0);
        assert_eq!((late(&mut policy), late(&mut policy)), (1.0, 0.5));
        (0..1000).for_each(|_| _ = late(&mut policy));
        assert_eq!(late(&mut policy), 1.0);
    }
}
