//! `--until-settled`: new files have become rare. A state machine without clock and recorder; the caller passes both in.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Samples per window. A decision is late by at most one sample.
const SAMPLES: u32 = 100;

/// Fewer than this many new files within this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) files: usize,
    pub(crate) time: Duration,
}

impl Quiet {
    /// Less than one file per second for ten seconds: longer than servers usually wait for something during their start, and
    /// more than a server that opens a log or temporary file now and then.
    pub(crate) const DEFAULT: Self = Self { files: 10, time: Duration::from_secs(10) };
}

impl FromStr for Quiet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected FILES/TIME, such as 10/10s, both above 0, not {text:?}");
        let (files, time) = text.split_once('/').ok_or_else(wrong)?;
        let files = files.parse().map_err(|_| wrong())?;
        let time = humantime::parse_duration(time).map_err(|_| wrong())?;
        if files == 0 || time.is_zero() {
            return Err(wrong());
        }
        Ok(Self { files, time })
    }
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fewer than {} new files within {}", self.files, humantime::format_duration(self.time))
    }
}

/// A sliding window over the number of files. It opens with the first file: before that, nothing runs.
#[derive(Debug)]
pub(crate) struct Settled {
    quiet: Quiet,
    /// Times and numbers of files, oldest first. All but the first are within the window.
    samples: VecDeque<(Duration, usize)>,
}

impl Settled {
    pub(crate) fn new(quiet: Quiet) -> Self {
        Self { quiet, samples: VecDeque::new() }
    }

    /// Whether the recording has settled, with `files` seen at the time `at` of a monotonic clock.
    pub(crate) fn observe(&mut self, at: Duration, files: usize) -> bool {
        if files == 0 {
            return false;
        }
        let time = self.quiet.time;
        let since = |then: Duration| at.saturating_sub(then);
        while self.samples.get(1).is_some_and(|(then, _)| since(*then) >= time) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(then, _)| since(*then) >= time / SAMPLES) {
            self.samples.push_back((at, files));
        }
        let oldest = self.samples.front();
        oldest.is_some_and(|(then, before)| since(*then) >= time && files.saturating_sub(*before) < self.quiet.files)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Name, threshold, observed (milliseconds, files), and when it settles.
    type Case = (&'static str, &'static str, &'static [(u64, usize)], Option<u64>);

    /// When a series of (milliseconds, files) settles.
    fn settles(quiet: &str, series: impl IntoIterator<Item = (u64, usize)>) -> Option<u64> {
        let mut settled = Settled::new(quiet.parse().unwrap());
        series.into_iter().find(|(at, files)| settled.observe(Duration::from_millis(*at), *files)).map(|(at, _)| at)
    }

    #[test]
    fn it_settles_when_new_files_are_rare_for_long_enough() {
        let cases: [Case; 9] = [
            ("nothing ran", "10/1s", &[(0, 0), (1000, 0), (9000, 0)], None),
            ("the first file opens the window", "10/1s", &[(0, 0), (5000, 20), (5900, 20), (6000, 20)], Some(6000)),
            ("just too short", "10/1s", &[(0, 5), (999, 5)], None),
            ("just at the threshold", "10/1s", &[(0, 5), (500, 10), (1000, 15)], None),
            ("just below it", "10/1s", &[(0, 5), (500, 10), (1000, 14)], Some(1000)),
            ("a burst leaves the window", "2/1s", &[(0, 1), (500, 100), (1000, 100), (1500, 100)], Some(1500)),
            ("a late burst", "2/1s", &[(0, 1), (900, 1), (999, 99), (1000, 99), (1900, 99), (1999, 99)], Some(1999)),
            ("one new file in a window of none", "1/1s", &[(0, 1), (900, 2), (1000, 2), (1800, 2)], None),
            ("observed rarely", "2/1s", &[(0, 1), (60_000, 50), (120_000, 51)], Some(120_000)),
        ];
        for (what, quiet, series, expected) in cases {
            assert_eq!(settles(quiet, series.iter().copied()), expected, "{what}");
        }
    }

    #[test]
    fn a_steady_rate_settles_below_the_threshold_only() {
        let steady = |every_ms: u64| (0..60_000).step_by(50).map(move |at| (at, 1 + (at / every_ms) as usize));
        assert_eq!(settles("10/10s", steady(900)), None);
        assert_eq!(settles("10/10s", steady(1000)), None);
        assert_eq!(settles("10/10s", steady(1200)), Some(10_000));
    }

    #[test]
    fn the_number_of_samples_is_bounded() {
        let mut settled = Settled::new("1/1h".parse().unwrap());
        for at in 0..400_000 {
            settled.observe(Duration::from_millis(at * 50), at as usize);
        }
        assert!(settled.samples.len() <= SAMPLES as usize + 1, "{}", settled.samples.len());
    }

    #[test]
    fn malformed_thresholds_are_refused() {
        assert_eq!("10/10s".parse(), Ok(Quiet::DEFAULT));
        for bad in ["", "10", "/", "10/", "/10s", "0/10s", "10/0s", "-1/1s", "1.5/1s", "10/10"] {
            assert!(bad.parse::<Quiet>().is_err(), "{bad} was accepted");
        }
    }
}
