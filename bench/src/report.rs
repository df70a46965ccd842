//! The result of a demo or benchmark: a JSON file and a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// A report; written as JSON to `bench/out/<name>.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The machine that measured.
    pub machine: Machine,
    /// Measured starts.
    pub cases: Vec<Case>,
    /// Aims, and whether they were met.
    pub targets: Vec<Target>,
}

/// Hardware and kernel that a report's times depend on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Usable processors.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
}

/// One start of a container. Times are wall-clock seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Case {
    /// Name of the table's row.
    pub name: String,
    /// Pulling the image.
    pub pull_s: f64,
    /// From the end of the pull to the start of the container's first process: sandbox, create, start.
    pub start_s: f64,
    /// From the start of that process to its exit.
    pub run_s: f64,
    /// The whole, including the removal of the pod.
    pub total_s: f64,
    /// Requests of the mounted client to the server, from pull to end.
    pub client_requests: u64,
    /// Bytes that the client received.
    pub client_bytes: u64,
    /// Requests of the prefetch daemon to the server.
    pub daemon_requests: u64,
    /// Bytes that the daemon received.
    pub daemon_bytes: u64,
    /// Files of the image that the container uses.
    pub files_used: usize,
}

impl Case {
    /// Summarises repeated runs: the median of each time, the maximum of each count.
    pub fn median_of(runs: &[Self]) -> Self {
        let time = |field: fn(&Self) -> f64| {
            let mut times: Vec<_> = runs.iter().map(field).collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let count = |field: fn(&Self) -> u64| runs.iter().map(field).max().unwrap_or_default();
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

/// An aim: a measured value against a limit.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// What is compared.
    pub name: String,
    /// Measured value.
    pub value: f64,
    /// Limit of the value.
    pub limit: f64,
    /// Side of the limit that counts as reached.
    pub bound: Bound,
    /// Whether the target is reached.
    pub ok: bool,
}

/// On which side of its limit a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The limit is a maximum.
    AtMost,
    /// The limit is a minimum.
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
    /// A report of this machine.
    pub fn new(cases: Vec<Case>, targets: Vec<Target>) -> Self {
        Self { machine: Machine::this(), cases, targets }
    }

    /// Writes the JSON file; creates its directory.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_with(path, &BTreeMap::<&str, ()>::new())
    }

    /// Like [`Report::write`], with further figures as additional fields.
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

    /// The report as a text table.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let width = self.cases.iter().map(|case| case.name.len()).max().unwrap_or_default().max(10);
        if !self.cases.is_empty() {
            let _ = writeln!(
                table,
                "{:<width$} {:>8} {:>8} {:>8} {:>8} {:>7} {:>16} {:>16}",
                "case", "pull", "start", "run", "total", "files", "client", "daemon"
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

/// One line per target.
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
    /// Reads the facts of this machine from `/proc`.
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
