//! The plots of a run.

use super::options::Condition;
use super::rounds::Runs;
use super::svg::Plot;
use super::ways::Way;

/// Where 0 ms stand on a logarithmic axis.
const NEAR_MS: f64 = 1.0;
/// Steps of the times in which requests are counted: each is longer than the one before by this factor.
const STEP: f64 = 1.5;
const FIRST_STEP: f64 = 0.01;

/// Time against round trip, a line for each way.
pub(super) fn times(runs: &Runs) -> Plot {
    let mut far: Vec<u64> = runs.0.iter().map(|run| run.condition.round_trip_ms).collect();
    far.sort_unstable();
    far.dedup();
    let line = |way: Way| {
        let at = |ms: &u64| {
            let seconds = runs.seconds(way, Condition::of(*ms))?.median;
            Some(((*ms as f64).max(NEAR_MS), seconds))
        };
        (way.name().to_owned(), far.iter().filter_map(at).collect())
    };
    Plot {
        title: "Until all files are there".into(),
        x: "round trip in ms (0 stands at 1)",
        y: "seconds",
        lines: Way::ALL.into_iter().map(line).collect(),
    }
}

/// How many requests a second come to the server over time, under one condition.
pub(super) fn requests(runs: &Runs, condition: Condition) -> Plot {
    let line = |way: Way| {
        let at: &[f64] = runs.of(way, condition).next().map_or(&[], |run| &run.requests_at);
        (way.name().to_owned(), per_second(at))
    };
    Plot {
        title: format!("Requests a second, {}", condition.name()),
        x: "seconds since the first",
        y: "requests a second",
        lines: [Way::Readers16, Way::Objects, Way::Packs].into_iter().map(line).collect(),
    }
}

/// Requests a second in times that get longer and longer; those without any are left out.
fn per_second(at: &[f64]) -> Vec<(f64, f64)> {
    let mut counted = Vec::new();
    let last = at.iter().copied().fold(0.0, f64::max);
    let (mut from, mut to) = (0.0, FIRST_STEP);
    while from <= last {
        let count = at.iter().filter(|time| (from..to).contains(*time)).count();
        if count > 0 {
            counted.push((to, count as f64 / (to - from)));
        }
        (from, to) = (to, to * STEP);
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once() {
        let at = [0.0, 0.005, 0.012, 0.5];
        let counted = per_second(&at);
        assert_eq!(counted[0], (0.01, 200.0));
        assert_eq!(counted.len(), 3);
        assert!(per_second(&[]).is_empty());
    }
}
