//! Plots of a run.

use super::method::Method;
use super::rounds::Runs;
use crate::condition::Condition;
use crate::plot::LinePlot;
use crate::statistics::per_second;

/// Position of 0 ms on a logarithmic axis.
const NEAR_MS: f64 = 1.0;

/// Time against round trip, one line per method.
pub(super) fn times(runs: &Runs) -> LinePlot {
    let mut round_trips: Vec<u64> = runs.0.iter().map(|run| run.condition.round_trip_ms).collect();
    round_trips.sort_unstable();
    round_trips.dedup();
    let line = |method: Method| {
        let at = |ms: &u64| {
            let seconds = runs.seconds(method, Condition::latency(*ms))?.median;
            Some(((*ms as f64).max(NEAR_MS), seconds))
        };
        (method.name().to_owned(), round_trips.iter().filter_map(at).collect())
    };
    LinePlot {
        title: "Time until all files are cached".into(),
        x: "round trip in ms (0 is drawn at 1)",
        y: "seconds",
        lines: Method::ALL.into_iter().map(line).collect(),
    }
}

/// Request rate at the server over time, under one condition.
pub(super) fn requests(runs: &Runs, condition: Condition) -> LinePlot {
    let line = |method: Method| {
        let at: &[f64] = runs.select(method, condition).next().map_or(&[], |run| &run.requests_at);
        (method.name().to_owned(), per_second(at))
    };
    LinePlot {
        title: format!("Requests per second, {}", condition.name()),
        x: "seconds since the first request",
        y: "requests per second",
        lines: [Method::Readers16, Method::Objects, Method::Packs].into_iter().map(line).collect(),
    }
}
