//! The figures for people. Below the ways stands more of the daemon with packs.

use std::fmt::Write as _;

use super::rounds::Runs;
use super::ways::{Times, Way};
use crate::condition::Condition;
use crate::statistics::spread;

/// Takes one of a request's times.
type Part = fn(&Times) -> f64;

/// A row for each way, a column for each condition: the median of the times, and their spread.
pub(super) fn of(runs: &Runs) -> String {
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
    for way in Way::ALL {
        if !runs.0.iter().any(|run| run.way == way) {
            continue;
        }
        let _ = write!(table, "{:<20}", way.name());
        for condition in &conditions {
            let cell = runs.seconds(way, *condition).map(|found| {
                let sampled = if runs.of(way, *condition).any(|run| run.sampled) { "*" } else { "" };
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
        ("  cores' time", |times| times.cores),
    ];
    for (name, value) in more {
        let _ = write!(table, "{name:<20}");
        for condition in &conditions {
            let values = runs.of(Way::Packs, *condition).filter_map(|run| run.prefetch.as_ref().map(value));
            let cell = spread(values.collect()).map(|found| format!("{:.3}", found.median));
            let _ = write!(table, "{:>26}", cell.unwrap_or_default());
        }
        table.push('\n');
    }
    if runs.0.iter().any(|run| run.sampled) {
        table.push_str("* the first 200 files were read, and the time multiplied\n");
    }
    table
}
