//! The report in Markdown.

use std::fmt::Write as _;

use super::cells::{Cell, Mode};
use super::options::USUAL_MS;
use super::records::{Records, Run};
use super::targets::conditions;
use super::{published, workloads};
use crate::condition::Condition;
use crate::report::{Machine, Target};

/// The whole report. Missed targets come first.
pub(super) fn markdown(records: &Records, targets: &[Target], machine: &Machine, plots: &[String]) -> String {
    let mut text = missed(targets);
    let repetitions = records.runs().map(|run| run.repetition).max().unwrap_or_default();
    let _ = writeln!(
        text,
        "\n{}, {} cores, {} GB, Linux {}. Medians of up to {repetitions} repetitions, with minimum and maximum in brackets. \
         `docs/src/benchmarks.md` explains the measurements.",
        machine.cpu,
        machine.cores,
        machine.memory_bytes / 1_000_000_000,
        machine.kernel
    );
    let _ = write!(
        text,
        "\n## The paper's table, with prefetch\n\nOur measurements at {USUAL_MS} ms.\n\n{}",
        published::papers_table(records)
    );
    let _ = write!(text, "\n## Published figures of others\n\n{}", published::table(records));
    let _ = write!(text, "\n## Images and bundles\n\n{}", images(records));
    for condition in conditions(records) {
        let _ = write!(text, "\n## {}\n\n{}", condition.name(), table(records, condition));
    }
    text.push_str(&crowds(records));
    text.push_str(&fleets(records));
    let _ = write!(text, "\n## Targets\n\n{}", target_table(targets));
    if !plots.is_empty() {
        text.push_str("\n## Plots\n\n");
        for plot in plots {
            let _ = writeln!(text, "![{plot}]({plot})");
        }
    }
    text
}

fn missed(targets: &[Target]) -> String {
    let missed: Vec<&Target> = targets.iter().filter(|target| !target.ok).collect();
    if missed.is_empty() {
        return format!("All {} targets were reached.\n", targets.len());
    }
    let mut text = format!("**{} of {} targets were missed:**\n\n", missed.len(), targets.len());
    for Target { name, value, limit, bound, .. } in missed {
        let _ = writeln!(text, "- {name}: {value:.3} ({bound} {limit})");
    }
    text
}

fn target_table(targets: &[Target]) -> String {
    let mut table = "| | Measured | Target | |\n|--|--:|--:|--|\n".to_owned();
    for Target { name, value, limit, bound, ok } in targets {
        let word = if *ok { "" } else { "**missed**" };
        let _ = writeln!(table, "| {name} | {value:.3} | {bound} {limit} | {word} |");
    }
    table
}

fn mega(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn images(records: &Records) -> String {
    let mut table =
        "| Image | compressed, MB | files used | objects, in packs | packs | bundle, MB | raw, MB | coverage | \
                     byte coverage | waste |\n|--|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for facts in workloads::ALL.iter().filter_map(|workload| records.facts(workload.name)) {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {}, {} | {} | {} | {} | {} | {} | {} |",
            facts.workload,
            mega(facts.image_bytes),
            facts.files,
            facts.objects,
            facts.packed,
            facts.packs,
            mega(facts.bundle_bytes),
            mega(facts.raw_bytes),
            percent(facts.coverage),
            percent(facts.byte_coverage),
            percent(facts.waste)
        );
    }
    table
}

const COLUMNS: &str = "| pull | create | ready | run | total | client: requests, MB | daemon: requests, MB | registry, MB | \
                       share of the image | peak requests/s | core seconds: client, daemon, snapshotter, containerd |\n";
const ALIGNED: &str = "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";

/// All images and modes under one condition.
fn table(records: &Records, condition: Condition) -> String {
    let mut table = format!("| Image | Mode {COLUMNS}|--|--{ALIGNED}");
    for workload in &workloads::ALL {
        for mode in Mode::ALL {
            let cell = Cell::new(workload.name, mode, condition);
            if let Some(row) = row(records, &cell) {
                let _ = writeln!(table, "| {} | {} {row}", workload.name, mode.name());
            }
        }
    }
    table
}

/// The columns of a cell; `None` if it was not measured.
fn row(records: &Records, cell: &Cell) -> Option<String> {
    let seconds = |figure: fn(&Run) -> f64| {
        let found = records.spread(cell, figure)?;
        Some(if found.least < found.most {
            format!("{:.2} ({:.2}-{:.2})", found.median, found.least, found.most)
        } else {
            format!("{:.2}", found.median)
        })
    };
    let median = |figure: fn(&Run) -> f64| records.median(cell, figure);
    let wire = |requests: fn(&Run) -> f64, bytes: fn(&Run) -> f64| {
        Some(format!("{:.0}, {:.1}", median(requests)?, median(bytes)? / 1e6))
    };
    let image = records.facts(&cell.workload).map(|facts| facts.image_bytes as f64);
    let share = image.and_then(|image| Some(format!("{:.1} %", 100.0 * median(|run| run.moved() as f64)? / image)));
    let columns = [
        seconds(|run| run.pull_s)?,
        seconds(|run| run.create_s)?,
        seconds(|run| run.ready_s)?,
        seconds(|run| run.run_s)?,
        seconds(|run| run.whole_s)?,
        wire(|run| run.client.requests as f64, |run| run.client.bytes as f64)?,
        wire(|run| run.daemon.requests as f64, |run| run.daemon.bytes as f64)?,
        mega(median(|run| run.registry_bytes as f64)? as u64),
        share.unwrap_or_default(),
        format!("{:.0}", median(|run| run.peak_requests as f64)?),
        format!(
            "{:.2}, {:.2}, {:.2}, {:.2}",
            median(|run| run.cores.client_s)?,
            median(|run| run.cores.daemon_s)?,
            median(|run| run.cores.snapshotter_s)?,
            median(|run| run.cores.containerd_s)?
        ),
    ];
    Some(format!("| {} |", columns.join(" | ")))
}

fn crowds(records: &Records) -> String {
    let mut cells: Vec<&Cell> = Vec::new();
    for run in records.runs().filter(|run| run.cell.containers > 1) {
        if !cells.contains(&&run.cell) {
            cells.push(&run.cell);
        }
    }
    if cells.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n## Many containers at once\n\nTimes are those of the slowest container; the total is from the pull to the removal of \
         the last.\n\n| Image | Mode {COLUMNS}|--|--{ALIGNED}"
    );
    for cell in cells {
        if let Some(row) = row(records, cell) {
            let _ = writeln!(text, "| {} | {} {row}", cell.name(), cell.mode.name());
        }
    }
    text
}

fn fleets(records: &Records) -> String {
    if records.fleets().next().is_none() {
        return String::new();
    }
    let mut text = "\n## A fleet behind one squid\n\nEach node has its own client, daemon and cache, and a reader instead of \
                    a container; all nodes share the cores of this machine.\n\n\
                    | Nodes | Image | Mode | all nodes, s | median node, s | requests at the squid | peak/s | requests at \
                    the origin | MB | peak/s |\n|--:|--|--|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for fleet in records.fleets() {
        let _ = writeln!(
            text,
            "| {} | {}, {} | {} | {:.2} | {:.2} | {} | {} | {} | {} | {} |",
            fleet.nodes,
            fleet.workload,
            fleet.condition.name(),
            fleet.mode.name(),
            fleet.whole_s,
            fleet.median_s,
            fleet.squid_requests,
            fleet.squid_peak,
            fleet.origin.requests,
            mega(fleet.origin.bytes),
            fleet.origin_peak
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::facts;
    use super::super::records::tests::records;
    use super::super::records::{Cores, Record};
    use super::super::traffic::Traffic;
    use super::*;

    fn machine() -> Machine {
        Machine { cpu: "Some".into(), cores: 2, memory_bytes: 24_000_000_000, kernel: "6.1".into() }
    }

    #[test]
    fn missed_targets_come_first() {
        let hit = Target::at_most("near", 1.0, 2.0);
        for (targets, first) in [
            (vec![hit.clone()], "All 1 targets were reached."),
            (
                vec![hit, Target::at_least("far", 1.0, 2.0)],
                "**1 of 2 targets were missed:**\n\n- far: 1.000 (at least 2)",
            ),
        ] {
            let text = markdown(&records(Vec::new()), &targets, &machine(), &[]);
            assert!(text.starts_with(first), "{text}");
            assert!(text.contains("| near | 1.000 | at most 2 |  |"), "{text}");
        }
    }

    #[test]
    fn a_cell_is_a_row_with_median_and_range() {
        let cell = Cell::new("root", Mode::Prefetch, Condition::latency(20));
        let run = |repetition, run_s, bytes| Run {
            run_s,
            registry_bytes: 1_000_000,
            daemon: Traffic { requests: 7, bytes },
            cores: Cores { daemon_s: 0.5, ..Cores::default() },
            ..super::super::records::tests::run(cell.clone(), repetition, 2.0)
        };
        let all = [run(1, 1.0, 9_000_000), run(2, 3.0, 9_000_000), run(3, 2.0, 9_000_000)];
        let mut all: Vec<Record> = all.map(Record::Run).into();
        all.push(Record::Facts(facts("root")));
        let text = markdown(&records(all), &[], &machine(), &["whole.svg".to_owned()]);
        let row = "| root | prefetch | 0.00 | 0.00 | 0.00 | 2.00 (1.00-3.00) | 2.00 | 0, 0.0 | 7, 9.0 | 1.0 | 10.0 % | 0 | \
                   0.00, 0.50, 0.00, 0.00 |";
        for part in [row, "## 20 ms\n", "![whole.svg](whole.svg)", "Medians of up to 3 repetitions"] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("## Many containers") && !text.contains("## A fleet"), "{text}");
    }
}
