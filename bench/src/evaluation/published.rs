//! Published measurements of similar workloads by others, for comparison. Machines, networks and files differ, so ratios can
//! be compared, absolute times hardly.

use std::fmt::Write as _;

use super::cells::{Cell, Mode};
use super::compare::Figure;
use super::options::USUAL_MS;
use super::records::{Records, Run};
use crate::condition::Condition;

/// The five images of the paper on CVMFS's snapshotter, and the workload that corresponds to each.
const PAPERS: [(&str, &str); 5] = [
    ("CentOS 7, `echo`", "base"),
    ("Python, `print`", "python"),
    ("gcc, compile and run a C file", "gcc"),
    ("ROOT, its C++ interpreter", "root"),
    ("CMS, Higgs analysis, one input file", "analysis"),
];
/// The figures that the paper gives for each image.
const METRICS: [(&str, Figure); 4] = [
    ("pull, s", |run| run.pull_s),
    ("ready, s", |run| run.ready_s),
    ("run, s", |run| run.run_s),
    ("MB", |run| run.moved() as f64 / 1e6),
];

/// The paper's table with our figures and prefetch as a third column, in Markdown.
pub(super) fn papers_table(records: &Records) -> String {
    let mut table = "| The paper's image | ours |".to_owned();
    METRICS.iter().for_each(|(name, _)| {
        let _ = write!(table, " {name}: full pull, lazy, **prefetch** |");
    });
    table.push_str("\n|--|--|--:|--:|--:|--:|\n");
    for (paper, ours) in PAPERS {
        let _ = write!(table, "| {paper} | `{ours}` |");
        for (_, figure) in METRICS {
            let shown = [Mode::Full, Mode::Lazy, Mode::Prefetch].map(|mode| {
                let cell = Cell::new(ours, mode, Condition::latency(USUAL_MS));
                records.median(&cell, figure).map_or("-".to_owned(), |median| format!("{median:.2}"))
            });
            let _ = write!(table, " {}, {}, **{}** |", shown[0], shown[1], shown[2]);
        }
        table.push('\n');
    }
    table
}

/// One published figure.
struct Published {
    what: &'static str,
    figure: &'static str,
    source: &'static str,
    /// Our corresponding figure.
    ours: fn(&Records) -> Option<String>,
}

const PAPER: &str = "Mosciatti et al. 2021";
const CHEP: &str = "CERN, CHEP 2026";
const ISSUE: &str = "cvmfs issue 3078";

fn cell(mode: Mode, ms: u64) -> Cell {
    Cell::new("root", mode, Condition::latency(ms))
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

const ALL: [Published; 7] = [
    Published {
        what: "ROOT: run time, lazy / full pull (ours: 20 ms)",
        figure: "about 5 times",
        source: PAPER,
        ours: |records| ratio(records, (Mode::Lazy, Mode::Full), 20),
    },
    Published {
        what: "ROOT: hsimple, cold / warm (ours: 20 ms)",
        figure: "10.1 times (53 s)",
        source: ISSUE,
        ours: |records| ratio(records, (Mode::Lazy, Mode::Warm), 20),
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

/// A Markdown table of single figures.
pub(super) fn table(records: &Records) -> String {
    let mut table = "| | Published | by | Ours |\n|--|--|--|--|\n".to_owned();
    for Published { what, figure, source, ours } in &ALL {
        let ours = ours(records).unwrap_or_else(|| "not measured".into());
        let _ = writeln!(table, "| {what} | {figure} | {source} | {ours} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::records::Record;
    use super::super::records::tests::{records, run};
    use super::*;

    #[test]
    fn missing_figures_are_shown_as_not_measured() {
        let record = |mode, ms, repetition, run_s| {
            Record::Run(Run { run_s, registry_bytes: 2_500_000, ..run(cell(mode, ms), repetition, 0.0) })
        };
        let records = records(vec![
            record(Mode::Lazy, 20, 1, 30.0),
            record(Mode::Full, 20, 1, 4.0),
            record(Mode::Lazy, 100, 1, 99.0),
        ]);
        for line in [
            "| ROOT: run time, lazy / full pull (ours: 20 ms) | about 5 times | Mosciatti et al. 2021 | 7.5 times |",
            "| ROOT: hsimple, cold / warm (ours: 20 ms) | 10.1 times (53 s) | cvmfs issue 3078 | not measured |",
            "| `import ROOT`, 100 ms, cold | 32.3 s | CERN, CHEP 2026 | 99.00 s |",
        ] {
            assert!(table(&records).contains(line), "{line}\nis not in\n{}", table(&records));
        }
        let row = "| ROOT, its C++ interpreter | `root` | 0.00, 0.00, **-** | 0.00, 0.00, **-** | 4.00, 30.00, **-** | 2.50, 2.50, **-** |";
        assert!(papers_table(&records).contains(row), "{}", papers_table(&records));
    }
}
