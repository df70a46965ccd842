//! The figures for people.

use std::fmt::Write as _;

use super::options::Condition;
use super::rounds::Runs;
use super::ways::Way;

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
    if runs.0.iter().any(|run| run.sampled) {
        table.push_str("* the first 200 files were read, and the time multiplied\n");
    }
    table
}
