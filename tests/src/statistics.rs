//! What is told of many measurements.

use serde::Serialize;

/// The middle one of some repetitions, and both ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

/// None of no values.
pub(crate) fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    Some(Spread { least, median: values[values.len() / 2], most })
}

/// How many times are spread, in the unit of the values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: usize,
    pub(crate) median: f64,
    pub(crate) p90: f64,
    /// 99 of 100 are not above.
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

impl Quantiles {
    /// None of no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        // The least value that this share of them is not above.
        let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let most = *values.last()?;
        Some(Self { count: values.len(), median: at(50), p90: at(90), p99: at(99), most })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_nothing_has_none() {
        let found = spread(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((found.least, found.median, found.most), (1.0, 2.0, 3.0));
        assert!(spread(Vec::new()).is_none());
    }

    #[test]
    fn quantiles_are_values_and_nothing_has_none() {
        for (count, expected) in [(1, [1, 1, 1, 1]), (10, [5, 9, 10, 10]), (200, [100, 180, 198, 200])] {
            let found = Quantiles::of((1..=count).rev().map(f64::from).collect()).unwrap();
            assert_eq!([found.median, found.p90, found.p99, found.most], expected.map(f64::from), "{count}");
            assert_eq!(found.count, count as usize);
        }
        assert_eq!(Quantiles::of(Vec::new()), None);
    }
}
