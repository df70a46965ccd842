//! The figures as a text table. Further figures of the daemon with packs follow below the methods.

use std::fmt::Write as _;

use super::measure::Times;
use super::method::Method;
use super::rounds::Runs;
use crate::condition::Condition;
use crate::statistics::spread;

/// Selects one of a request's times.
type Part = fn(&Times) -> f64;

/// One row per method, one column per condition: the median of the times, with minimum and maximum.
pub(super) fn render(runs: &Runs) -> String {
    let mut conditions: Vec<Condition> = Vec::new();
    for run in &runs.0 {
        if !conditions.contains(&run.condition) {
            conditions.push(run.condition);
        }
    }
    let mut table = format!("{:<20}", "seconds");
    for condition in &conditions {
        let _ = write!(table, "{:>26}", condition.name());
    }
    table.push('\n');
    for method in Method::ALL {
        if !runs.0.iter().any(|run| run.method == method) {
            continue;
        }
        let _ = write!(table, "{:<20}", method.name());
        for condition in &conditions {
            let cell = runs.seconds(method, *condition).map(|found| {
                let sampled = if runs.select(method, *condition).any(|run| run.sampled) { "*" } else { "" };
                format!("{:.2}{sampled} ({:.2}-{:.2})", found.median, found.least, found.most)
            });
            let _ = write!(table, "{:>26}", cell.unwrap_or_default());
        }
        table.push('\n');
    }
    let more: [(&str, Part); 4] = [
        ("  first request", |times| times.first_request),
        ("  first object", |times| times.first_byte),
        ("  critical objects", |times| times.critical),
        ("  core seconds", |times| times.cores),
    ];
    for (name, value) in more {
        let _ = write!(table, "{name:<20}");
        for condition in &conditions {
            let values = runs.select(Method::Packs, *condition).filter_map(|run| run.prefetch.as_ref().map(value));
            let cell = spread(values.collect()).map(|found| format!("{:.3}", found.median));
            let _ = write!(table, "{:>26}", cell.unwrap_or_default());
        }
        table.push('\n');
    }
    if runs.0.iter().any(|run| run.sampled) {
        table.push_str("* extrapolated from the first 200 files\n");
    }
    table
}
