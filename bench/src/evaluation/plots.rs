//! The plots, as in the paper and in CERN's talk: pull time, time to ready, run time and bytes for each image and mode; total
//! time against round trip; request rate over time.

use anyhow::Result;

use super::cells::{Cell, Mode};
use super::compare::Figure;
use super::options::USUAL_MS;
use super::records::Records;
use super::targets::{conditions, round_trips};
use super::workloads;
use crate::condition::Condition;
use crate::plot::{Bar, BarPlot, LinePlot};
use crate::statistics::per_second;

/// Position of 0 ms on a logarithmic axis.
const NEAR_MS: f64 = 1.0;

const FIGURES: [(&str, &str, Figure); 5] = [
    ("pull", "Pull, in seconds", |run| run.pull_s),
    ("ready", "From pull to ready, in seconds", |run| run.ready_s),
    ("run", "Run, in seconds", |run| run.run_s),
    ("whole", "Pull, create and run, in seconds", |run| run.whole_s),
    ("bytes", "Transferred, in MB", |run| run.moved() as f64 / 1e6),
];

/// File names and SVG files. Plots without measurements are omitted.
pub(super) fn all(records: &Records) -> Result<Vec<(String, String)>> {
    let mut plots: Vec<(String, String)> = Vec::new();
    for (name, title, figure) in FIGURES {
        let bars = bars(records, title, figure);
        if !bars.bars.is_empty() {
            plots.push((format!("{name}.svg"), bars.svg()?));
        }
    }
    for workload in &workloads::ALL {
        let plot = latency(records, workload.name);
        if plot.lines.iter().any(|(_, line)| line.len() > 1) {
            plots.push((format!("latency-{}.svg", workload.name), plot.svg()?));
        }
        let plot = requests(records, workload.name);
        if plot.lines.iter().any(|(_, line)| !line.is_empty()) {
            plots.push((format!("requests-{}.svg", workload.name), plot.svg()?));
        }
    }
    let plot = fleet(records);
    if !plot.lines.is_empty() {
        plots.push(("fleet.svg".into(), plot.svg()?));
    }
    Ok(plots)
}

fn bars(records: &Records, title: &str, figure: Figure) -> BarPlot {
    let bar = |workload: &str, mode: Mode| {
        let median = records.median(&Cell::new(workload, mode, Condition::latency(USUAL_MS)), figure)?;
        let (name, group) = (format!("{workload}, {}", mode.name()), workload.to_owned());
        Some(Bar { name, group, values: vec![median] })
    };
    let all = workloads::ALL.iter().flat_map(|workload| Mode::ALL.map(|mode| (workload.name, mode)));
    BarPlot {
        title: format!("{title}; {USUAL_MS} ms"),
        parts: Vec::new(),
        bars: all.filter_map(|(workload, mode)| bar(workload, mode)).collect(),
    }
}

fn latency(records: &Records, workload: &str) -> LinePlot {
    let round_trips = round_trips(&conditions(records));
    let line = |mode: Mode| {
        let at = |ms: &u64| {
            let median = records.median(&Cell::new(workload, mode, Condition::latency(*ms)), |run| run.whole_s)?;
            Some(((*ms as f64).max(NEAR_MS), median))
        };
        (mode.name().to_owned(), round_trips.iter().filter_map(at).collect())
    };
    LinePlot {
        title: format!("{workload}: pull, create and run"),
        x: "round trip in ms (0 is drawn at 1)",
        y: "seconds",
        lines: Mode::ALL.into_iter().map(line).collect(),
    }
}

fn requests(records: &Records, workload: &str) -> LinePlot {
    let line = |mode: Mode| {
        let cell = Cell::new(workload, mode, Condition::latency(USUAL_MS));
        let at: &[f64] = records.runs_of(&cell).find(|run| run.repetition == 1).map_or(&[], |run| &run.requests_at);
        (mode.name().to_owned(), per_second(at))
    };
    LinePlot {
        title: format!("{workload}: requests per second at the origin, {USUAL_MS} ms"),
        x: "seconds since the pull began",
        y: "requests per second",
        lines: [Mode::Lazy, Mode::Native, Mode::Waits, Mode::Prefetch].map(line).into(),
    }
}

fn fleet(records: &Records) -> LinePlot {
    let mut title = "Requests per second at the squid".to_owned();
    let mut lines = Vec::new();
    for fleet in records.fleets() {
        title = format!("{} nodes, {}: requests per second at their squid", fleet.nodes, fleet.workload);
        let counted = fleet.squid_by_second.iter().enumerate().filter(|(_, count)| **count > 0);
        let line = counted.map(|(second, count)| ((second + 1) as f64, *count as f64)).collect();
        lines.retain(|(name, _): &(String, _)| name != fleet.mode.name());
        lines.push((fleet.mode.name().to_owned(), line));
    }
    LinePlot { title, x: "seconds since the first request (end of each second)", y: "requests", lines }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::records::tests::{records, run};
    use super::super::records::{Record, Run};
    use super::*;

    #[test]
    fn only_measured_figures_are_plotted() {
        assert!(all(&records(Vec::new())).unwrap().is_empty());
        let cell = |ms| Cell::new("root", Mode::Lazy, Condition::latency(ms));
        let near = Run { requests_at: vec![0.5, 0.6], ..run(cell(USUAL_MS), 1, 4.0) };
        let names = |runs: &[Run]| {
            let runs = runs.iter().cloned().map(Record::Run).collect();
            all(&records(runs)).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let bars = ["pull.svg", "ready.svg", "run.svg", "whole.svg", "bytes.svg"];
        assert_eq!(names(std::slice::from_ref(&near)), [&bars[..], &["requests-root.svg"]].concat());
        let both = [near, run(cell(100), 1, 8.0)];
        assert_eq!(names(&both), [&bars[..], &["latency-root.svg", "requests-root.svg"]].concat());
        let plots = all(&records(both.map(Record::Run).into())).unwrap();
        let whole = &plots.iter().find(|(name, _)| name == "whole.svg").unwrap().1;
        assert!(whole.contains("root, lazy") && whole.contains("4.00"), "{whole}");
    }
}
