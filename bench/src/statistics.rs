//! Medians, quantiles and rates of repeated measurements.

use serde::Serialize;

/// Median and range of repeated measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

/// `None` without values.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let least = *values.first()?;
    let most = *values.last()?;
    Some(Spread { least, median: values[values.len() / 2], most })
}

/// The distribution of many measurements, in their unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: usize,
    pub(crate) median: f64,
    pub(crate) p90: f64,
    /// The 99th percentile.
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

impl Quantiles {
    /// `None` without values.
    pub(crate) fn from_values(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        // The smallest value that at least this share of the values does not exceed.
        let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let most = *values.last()?;
        Some(Self { count: values.len(), median: at(50), p90: at(90), p99: at(99), most })
    }
}

/// Requests are counted in intervals, each longer than the previous one by this factor.
const STEP: f64 = 1.5;
const FIRST_STEP: f64 = 0.01;

/// Request rates over time, in intervals of growing length: the end of each interval and its rate. Intervals without requests
/// are omitted.
pub(crate) fn per_second(at: &[f64]) -> Vec<(f64, f64)> {
    let mut counted = Vec::new();
    let last = at.iter().copied().fold(0.0, f64::max);
    let mut from = 0.0;
    let mut to = FIRST_STEP;
    while from <= last {
        let count = at.iter().filter(|time| (from..to).contains(*time)).count();
        if count > 0 {
            counted.push((to, count as f64 / (to - from)));
        }
        from = to;
        to *= STEP;
    }
    counted
}

/// The largest number of requests within any one second; `at` are their times in seconds.
pub(crate) fn peak_per_second(at: &[f64]) -> usize {
    let mut at = at.to_vec();
    at.sort_by(f64::total_cmp);
    let mut first = 0;
    let within = at.iter().enumerate().map(|(last, time)| {
        while time - at[first] >= 1.0 {
            first += 1;
        }
        last - first + 1
    });
    within.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spread_has_the_median_and_both_ends() {
        let found = spread(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((found.least, found.median, found.most), (1.0, 2.0, 3.0));
        assert!(spread(Vec::new()).is_none());
    }

    #[test]
    fn quantiles_are_measured_values() {
        for (count, expected) in [(1, [1, 1, 1, 1]), (10, [5, 9, 10, 10]), (200, [100, 180, 198, 200])] {
            let found = Quantiles::from_values((1..=count).rev().map(f64::from).collect()).unwrap();
            assert_eq!([found.median, found.p90, found.p99, found.most], expected.map(f64::from), "{count}");
            assert_eq!(found.count, count as usize);
        }
        assert_eq!(Quantiles::from_values(Vec::new()), None);
    }

    #[test]
    fn per_second_counts_every_request_once() {
        let at = [0.0, 0.005, 0.012, 0.5];
        let counted = per_second(&at);
        assert_eq!(counted[0], (0.01, 200.0));
        assert_eq!(counted.len(), 3);
        assert!(per_second(&[]).is_empty());
    }

    #[test]
    fn peak_per_second_finds_bursts_anywhere() {
        let spread: Vec<f64> = (0..40).map(|number| f64::from(number) * 0.125).collect();
        let burst: Vec<f64> = [3.95, 4.0, 4.05].repeat(10);
        for (at, expected) in [
            (vec![], 0),
            (vec![7.0], 1),
            (vec![2.0, 0.0, 1.0], 1),
            (vec![0.0, 0.999, 1.0], 2),
            (spread.clone(), 8),
            ([spread, burst].concat(), 38),
        ] {
            assert_eq!(peak_per_second(&at), expected, "{at:?}");
        }
    }
}
