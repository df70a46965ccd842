//! The plots of a run.

use super::rounds::Runs;
use super::ways::Way;
use crate::condition::Condition;
use crate::statistics::per_second;
use crate::svg::Plot;

/// Where 0 ms stand on a logarithmic axis.
const NEAR_MS: f64 = 1.0;
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
