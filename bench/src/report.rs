//! What a demonstration or a benchmark found: a JSON file and a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// A report, as it is written to `bench/out/<name>.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// What was measured.
    pub cases: Vec<Case>,
    /// What was to be reached.
    pub targets: Vec<Target>,
}

/// The machine of a report.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors that can be used.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
}

/// One start of a container. Times are in seconds of the wall clock.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Case {
    /// Which one.
    pub name: String,
    /// Pulling the image.
    pub pull_s: f64,
    /// From the pull's end to the start of the container's first process: sandbox, create, start.
    pub start_s: f64,
    /// From there to its end.
    pub run_s: f64,
    /// All, with the removal of the pod.
    pub total_s: f64,
    /// What the mounted client asked of the server from pull to end.
    pub client_requests: u64,
    /// The bytes it got.
    pub client_bytes: u64,
    /// What the prefetch daemon asked of the server.
    pub daemon_requests: u64,
    /// The bytes it got.
    pub daemon_bytes: u64,
    /// Files of the image that the container used.
    pub files_used: usize,
}

impl Case {
    /// One case out of several runs of it: the median of each time, the largest of each count.
    pub fn of_runs(runs: &[Self]) -> Self {
        let time = |of: fn(&Self) -> f64| {
            let mut times: Vec<_> = runs.iter().map(of).collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let count = |of: fn(&Self) -> u64| runs.iter().map(of).max().unwrap_or_default();
        Self {
            name: runs.first().map(|run| run.name.clone()).unwrap_or_default(),
            pull_s: time(|run| run.pull_s),
            start_s: time(|run| run.start_s),
            run_s: time(|run| run.run_s),
            total_s: time(|run| run.total_s),
            client_requests: count(|run| run.client_requests),
            client_bytes: count(|run| run.client_bytes),
            daemon_requests: count(|run| run.daemon_requests),
            daemon_bytes: count(|run| run.daemon_bytes),
            files_used: runs.iter().map(|run| run.files_used).max().unwrap_or_default(),
        }
    }
}

/// Something to be reached.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// What.
    pub name: String,
    /// What it was.
    pub value: f64,
    /// What it had to be, at most or at least.
    pub limit: f64,
    /// Which of both.
    pub bound: Bound,
    /// Whether it was.
    pub ok: bool,
}

/// On which side of its limit a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Not above.
    AtMost,
    /// Not below.
    AtLeast,
}

impl Target {
    /// A value that must not be above a limit.
    pub fn at_most(name: &str, value: f64, limit: f64) -> Self {
        Self { name: name.to_owned(), value, limit, bound: Bound::AtMost, ok: value <= limit }
    }

    /// A value that must not be below a limit.
    pub fn at_least(name: &str, value: f64, limit: f64) -> Self {
        Self { name: name.to_owned(), value, limit, bound: Bound::AtLeast, ok: value >= limit }
    }
}

impl Report {
    /// A report from this machine.
    pub fn new(cases: Vec<Case>, targets: Vec<Target>) -> Self {
        Self { machine: Machine::this(), cases, targets }
    }

    /// Writes the JSON file and the directories above it.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_with(path, &BTreeMap::<&str, ()>::new())
    }

    /// The same with further figures beside the report's own.
    pub fn write_with(&self, path: &Path, figures: &impl Serialize) -> Result<()> {
        #[derive(Serialize)]
        struct Everything<'a, T> {
            #[serde(flatten)]
            report: &'a Report,
            #[serde(flatten)]
            figures: &'a T,
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(&Everything { report: self, figures })?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let width = self.cases.iter().map(|case| case.name.len()).max().unwrap_or_default().max(10);
        if !self.cases.is_empty() {
            let _ = writeln!(
                table,
                "{:<width$} {:>8} {:>8} {:>8} {:>8} {:>7} {:>16} {:>16}",
                "case", "pull", "start", "run", "whole", "files", "client", "daemon"
            );
        }
        for case in &self.cases {
            let wire = |requests: u64, bytes: u64| format!("{requests} req {:.1} MB", bytes as f64 / 1e6);
            let _ = writeln!(
                table,
                "{:<width$} {:>6.2} s {:>6.2} s {:>6.2} s {:>6.2} s {:>7} {:>16} {:>16}",
                case.name,
                case.pull_s,
                case.start_s,
                case.run_s,
                case.total_s,
                case.files_used,
                wire(case.client_requests, case.client_bytes),
                wire(case.daemon_requests, case.daemon_bytes)
            );
        }
        table.push('\n');
        table.push_str(&targets_table(&self.targets));
        table
    }
}

/// A line for each target.
pub fn targets_table(targets: &[Target]) -> String {
    let width = targets.iter().map(|target| target.name.len()).max().unwrap_or_default().max(48);
    let mut table = String::new();
    for Target { name, value, limit, bound, ok } in targets {
        let word = if *ok { "ok" } else { "MISSED" };
        let _ = writeln!(table, "{name:<width$} {value:>7.3}  ({bound} {limit:.3})  {word}");
    }
    table
}

impl std::fmt::Display for Bound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::AtMost => "at most",
            Self::AtLeast => "at least",
        })
    }
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.split(':').nth(1).map(|value| value.trim().to_owned()))
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}
