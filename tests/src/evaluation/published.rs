//! Figures that others have published of the same kinds of work, to stand beside ours. Their machines, networks and files are
//! not ours: ratios can be compared, seconds hardly.

use super::cells::{Cell, Mode};
use super::records::{Records, Run};
use crate::condition::Condition;

/// One figure.
struct Published {
    what: &'static str,
    figure: &'static str,
    source: &'static str,
    /// The same of ours.
    ours: fn(&Records) -> Option<String>,
}

const PAPER: &str = "Mosciatti et al. 2021";
const CHEP: &str = "CERN, CHEP 2026";

fn cell(mode: Mode, ms: u64) -> Cell {
    Cell::of("root", mode, Condition::of(ms))
}

fn run_time(run: &Run) -> f64 {
    run.run_s
}

fn ratio(records: &Records, (mode, other): (Mode, Mode), ms: u64) -> Option<String> {
    Some(format!("{:.1} times", records.ratio(&cell(mode, ms), &cell(other, ms), run_time)?))
}

fn seconds(records: &Records, mode: Mode, ms: u64) -> Option<String> {
    Some(format!("{:.2} s", records.median(&cell(mode, ms), run_time)?))
}

const ALL: [Published; 6] = [
    Published {
        what: "ROOT: run time, lazy / full pull (ours: 20 ms)",
        figure: "about 5 times",
        source: PAPER,
        ours: |records| ratio(records, (Mode::Lazy, Mode::Full), 20),
    },
    Published {
        what: "`import ROOT`, cold / warm (ours: with fill and fit, 0 ms)",
        figure: "4.2 times (4.69 s, 1.12 s)",
        source: CHEP,
        ours: |records| ratio(records, (Mode::Lazy, Mode::Warm), 0),
    },
    Published {
        what: "the same, native bundle / warm (ours: a model of it)",
        figure: "2.2 times (2.45 s, 1.12 s)",
        source: CHEP,
        ours: |records| ratio(records, (Mode::Native, Mode::Warm), 0),
    },
    Published {
        what: "the same, prefetch / warm",
        figure: "",
        source: "",
        ours: |records| ratio(records, (Mode::Prefetch, Mode::Warm), 0),
    },
    Published {
        what: "`import ROOT`, 100 ms, cold",
        figure: "32.3 s",
        source: CHEP,
        ours: |records| seconds(records, Mode::Lazy, 100),
    },
    Published {
        what: "the same, native bundle (ours: a model of it, then prefetch)",
        figure: "4.4 s",
        source: CHEP,
        ours: |records| {
            Some(format!("{}, {}", seconds(records, Mode::Native, 100)?, seconds(records, Mode::Prefetch, 100)?))
        },
    },
];

/// A Markdown table.
pub(super) fn table(records: &Records) -> String {
    let mut table = "| | Published | by | Ours |\n|--|--|--|--|\n".to_owned();
    for Published { what, figure, source, ours } in &ALL {
        let ours = ours(records).unwrap_or_else(|| "not measured".into());
        table.push_str(&format!("| {what} | {figure} | {source} | {ours} |\n"));
    }
    table
}
