//! The figures as a text table.

use std::fmt::Write as _;

use super::Figures;
use crate::statistics::Quantiles;

/// One row per variant and chain, and one per state of the daemon.
pub(super) fn render(figures: &Figures) -> String {
    let mut table = format!("{:<38}{:>20}{:>20}{:>20}\n", "ms: median (99th percentile)", "Prepare", "Remove", "both");
    for compared in &figures.against_overlayfs {
        let name = format!("{} layers, {}", compared.layers, compared.variant.name());
        let cells = [&compared.prepare, &compared.remove, &compared.both].map(cell);
        let _ = writeln!(table, "{name:<38}{:>20}{:>20}{:>20}", cells[0], cells[1], cells[2]);
    }
    table.push('\n');
    for times in &figures.daemon_states {
        let _ =
            writeln!(table, "{:<38}{:>20}", format!("prefetch daemon {}", times.state.name()), cell(&times.prepare));
    }
    let first_byte = &figures.first_byte;
    let cells = [first_byte.median, first_byte.p90, first_byte.most].map(|ms| format!("{ms:.2}"));
    let _ = writeln!(table, "\n{:<38}{:>20}{:>20}{:>20}", "ms", "median", "90th percentile", "maximum");
    let _ = writeln!(table, "{:<38}{:>20}{:>20}{:>20}", "first Prepare to first request", cells[0], cells[1], cells[2]);
    table.push('\n');
    table
}

fn cell(times: &Quantiles) -> String {
    format!("{:.2} ({:.2})", times.median, times.p99)
}
