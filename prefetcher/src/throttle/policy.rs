//! How much of its connections the daemon may use, from how soon a CVMFS client answers.
//!
//! Half as much each time an answer is late, down to an eighth, and a step more after each that is not. Late is an answer
//! that takes several times the usual and is felt, too. One alone is an accident of the scheduler and changes nothing.

use std::time::Duration;

/// Answers within this are never late: nobody feels it.
const UNFELT: f64 = 0.020;
/// So many times the usual is late.
const LATE: f64 = 4.0;
/// How much one answer moves what is usual up: what lasts for minutes is how this client is. Down it moves at once.
const DRIFT: f64 = 0.001;
/// All.
const FULL: f64 = 1.0;
/// It does not get less.
const LEAST: f64 = 0.125;
/// What an answer in time gives back.
const STEP: f64 = 0.125;

/// What is known of one client.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Seconds.
    usual: Option<f64>,
    share: f64,
    was_late: bool,
}

impl Policy {
    /// Nothing known yet.
    pub(super) fn new() -> Self {
        Self { usual: None, share: FULL, was_late: false }
    }

    /// The client took `time` to answer, or has taken so long and not answered yet; how much may be used now.
    pub(super) fn answered(&mut self, time: Duration) -> f64 {
        let now = time.as_secs_f64();
        let usual = *self.usual.get_or_insert(now);
        let is_late = now > UNFELT.max(LATE * usual);
        self.usual = Some(if now < usual { now } else { usual + DRIFT * (now - usual) });
        match (is_late, self.was_late) {
            (true, true) => self.share = (self.share / 2.0).max(LEAST),
            (true, false) => {}
            (false, _) => self.share = (self.share + STEP).min(FULL),
        }
        self.was_late = is_late;
        self.share
    }

    /// How much may be used, as the last answer said.
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

    /// The shares after answers that take so many milliseconds.
    fn shares(times: &[u64]) -> Vec<f64> {
        let mut courtesy = Policy::new();
        times.iter().map(|ms| courtesy.answered(Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn late_answers_halve_the_share_and_prompt_ones_give_it_back() {
        for (times, expected) in [
            // Slower, but not felt.
            (&[1, 19, 19, 19][..], &[1.0, 1.0, 1.0, 1.0][..]),
            // An accident.
            (&[1, 300, 1, 300, 1], &[1.0, 1.0, 1.0, 1.0, 1.0]),
            (&[1, 30, 30, 30, 30, 30], &[1.0, 1.0, 0.5, 0.25, 0.125, 0.125]),
            (&[1, 30, 30, 1, 1, 1, 1, 1], &[1.0, 1.0, 0.5, 0.625, 0.75, 0.875, 1.0, 1.0]),
            // A client that is always slow is not late, one that was found slow and is not is soon known.
            (&[100, 110, 390, 390], &[1.0, 1.0, 1.0, 1.0]),
            (&[100, 1, 100, 100], &[1.0, 1.0, 1.0, 0.5]),
        ] {
            assert_eq!(shares(times), expected, "{times:?}");
        }
    }

    #[test]
    fn what_lasts_for_minutes_is_usual_and_who_is_silent_is_not_late() {
        let mut courtesy = Policy::new();
        courtesy.answered(Duration::from_millis(1));
        let late = |courtesy: &mut Policy| courtesy.answered(Duration::from_millis(200));
        assert!((0..100).all(|n| late(&mut courtesy) < 1.0 || n == 0));
        assert_eq!(courtesy.unknown(), 1.0);
        assert_eq!((late(&mut courtesy), late(&mut courtesy)), (1.0, 0.5));
        (0..1000).for_each(|_| _ = late(&mut courtesy));
        assert_eq!(late(&mut courtesy), 1.0);
    }
}
