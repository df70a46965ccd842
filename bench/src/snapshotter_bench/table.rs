//! The figures for people.

use std::fmt::Write as _;

use super::Figures;
use crate::statistics::Quantiles;

/// A row for each way, chain by chain, and one for each state of the daemon.
pub(super) fn of(figures: &Figures) -> String {
    let mut table = format!("{:<38}{:>20}{:>20}{:>20}\n", "ms: median (99 of 100)", "Prepare", "Remove", "both");
    for one in &figures.against_overlayfs {
        let name = format!("{} layers, {}", one.layers, one.way.name());
        let cells = [&one.prepare, &one.remove, &one.both].map(cell);
        let _ = writeln!(table, "{name:<38}{:>20}{:>20}{:>20}", cells[0], cells[1], cells[2]);
    }
    table.push('\n');
    for one in &figures.hints {
        let _ = writeln!(table, "{:<38}{:>20}", format!("prefetch daemon {}", one.state.name()), cell(&one.prepare));
    }
    let first_byte = &figures.first_byte;
    let cells = [first_byte.median, first_byte.p90, first_byte.most].map(|ms| format!("{ms:.2}"));
    let _ = writeln!(table, "\n{:<38}{:>20}{:>20}{:>20}", "ms", "median", "9 of 10", "most");
    let _ = writeln!(table, "{:<38}{:>20}{:>20}{:>20}", "first Prepare to first request", cells[0], cells[1], cells[2]);
    table.push('\n');
    table
}

fn cell(times: &Quantiles) -> String {
    format!("{:.2} ({:.2})", times.median, times.p99)
}
