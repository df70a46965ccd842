//! The records of a run: a JSON Lines file to which every measurement is appended at once, so that an interrupted run can
//! be continued.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cells::Cell;
use super::fleet::Fleet;
use super::prepare::Facts;
use super::traffic::Traffic;

const FILE: &str = "records.jsonl";

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Record {
    /// Measured containers.
    Run(Run),
    /// Size and quality of a workload's image and bundle.
    Facts(Facts),
    /// A fleet of nodes.
    Fleet(Fleet),
}

/// One measurement of a cell. Times are in seconds; with several containers, those of the slowest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) cell: Cell,
    /// Counted from one.
    pub(super) repetition: usize,
    /// PullImage.
    pub(super) pull_s: f64,
    /// RunPodSandbox.
    pub(super) sandbox_s: f64,
    /// CreateContainer and StartContainer.
    pub(super) create_s: f64,
    /// From the begin of the pull to the first output, or to a service's first response; without the sandbox.
    pub(super) ready_s: f64,
    /// From the start of the container's first process to its exit.
    pub(super) run_s: f64,
    /// Pull, create and run; with several containers, from the begin of the pull to the removal of the last.
    pub(super) whole_s: f64,
    pub(super) client: Traffic,
    pub(super) daemon: Traffic,
    pub(super) registry_bytes: u64,
    /// Peak of requests at the origin within one second.
    pub(super) peak_requests: usize,
    /// Times of the requests at the origin, in seconds since the begin of the pull; kept for the plotted cells only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) requests_at: Vec<f64>,
    pub(super) cores: Cores,
}

impl Run {
    /// Traffic from the origin.
    pub(super) fn origin(&self) -> Traffic {
        let (client, daemon) = (self.client, self.daemon);
        client + daemon
    }

    /// All bytes that came over the link.
    pub(super) fn moved(&self) -> u64 {
        self.origin().bytes + self.registry_bytes
    }
}

/// Processor time of the node's daemons, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cores {
    pub(super) client_s: f64,
    pub(super) daemon_s: f64,
    pub(super) snapshotter_s: f64,
    pub(super) containerd_s: f64,
}

impl std::ops::Sub for Cores {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            client_s: self.client_s - before.client_s,
            daemon_s: self.daemon_s - before.daemon_s,
            snapshotter_s: self.snapshotter_s - before.snapshotter_s,
            containerd_s: self.containerd_s - before.containerd_s,
        }
    }
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Identity of the measured build; see [`Records::open`].
    programs: String,
    #[serde(flatten)]
    record: Record,
}

/// All records of one build of the programs.
#[derive(Debug)]
pub(super) struct Records {
    programs: String,
    file: PathBuf,
    all: Vec<Record>,
}

impl Records {
    /// Reads the records in `directory`. Records of other builds (`programs`) stay in the file and are ignored. An incomplete
    /// last line, left by an interrupted run, is cut off.
    pub(super) fn open(directory: &Path, programs: &str) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let file = directory.join(FILE);
        let mut text = match std::fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("cannot read {}", file.display()))?,
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            text.truncate(whole);
            File::options().write(true).open(&file)?.set_len(whole as u64)?;
        }
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}: remove the file", file.display(), number + 1))?;
            if line.programs == programs {
                all.push(line.record);
            }
        }
        Ok(Self { programs: programs.to_owned(), file, all })
    }

    /// Adds a record and appends it to the file.
    pub(super) fn add(&mut self, record: Record) -> Result<()> {
        let line = Line { programs: self.programs.clone(), record };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        let mut file = File::options().create(true).append(true).open(&self.file)?;
        file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", self.file.display()))?;
        self.all.push(line.record);
        Ok(())
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.all.iter().filter_map(|record| if let Record::Run(run) = record { Some(run) } else { None })
    }

    pub(super) fn fleets(&self) -> impl Iterator<Item = &Fleet> {
        self.all.iter().filter_map(|record| if let Record::Fleet(fleet) = record { Some(fleet) } else { None })
    }

    /// The newest facts about a workload.
    pub(super) fn facts(&self, workload: &str) -> Option<&Facts> {
        let all = self.all.iter().rev();
        let mut facts = all.filter_map(|record| if let Record::Facts(facts) = record { Some(facts) } else { None });
        facts.find(|facts| facts.workload == workload)
    }

    /// Whether this repetition of a cell has been measured.
    pub(super) fn has(&self, cell: &Cell, repetition: usize) -> bool {
        self.runs_of(cell).any(|run| run.repetition == repetition)
    }

    /// All repetitions of a cell.
    pub(super) fn runs_of<'a>(&'a self, cell: &'a Cell) -> impl Iterator<Item = &'a Run> {
        self.runs().filter(move |run| run.cell == *cell)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::cells::Mode;
    use super::*;
    use crate::condition::Condition;

    /// A run with only these figures.
    pub(in super::super) fn run(cell: Cell, repetition: usize, whole_s: f64) -> Run {
        Run {
            cell,
            repetition,
            pull_s: 0.0,
            sandbox_s: 0.0,
            create_s: 0.0,
            ready_s: 0.0,
            run_s: 0.0,
            whole_s,
            client: Traffic::default(),
            daemon: Traffic::default(),
            registry_bytes: 0,
            peak_requests: 0,
            requests_at: Vec::new(),
            cores: Cores::default(),
        }
    }

    /// Records without a file.
    pub(in super::super) fn records(all: Vec<Record>) -> Records {
        Records { programs: String::new(), file: PathBuf::new(), all }
    }

    fn cell(mode: Mode) -> Cell {
        let condition = Condition { bytes_per_second: Some(25_000_000), squid: true, ..Condition::latency(20) };
        Cell::new("root", mode, condition)
    }

    #[test]
    fn an_interrupted_run_continues() {
        let directory = tempfile::tempdir().unwrap();
        let results = directory.path().join("today");
        let mut records = Records::open(&results, "new").unwrap();
        let kept = Run { requests_at: vec![0.25], ..run(cell(Mode::Lazy), 2, 1.5) };
        records.add(Record::Run(kept.clone())).unwrap();
        let file = results.join(FILE);
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}{}", &whole[..whole.len() / 2])).unwrap();

        let mut again = Records::open(&results, "new").unwrap();
        assert_eq!(again.runs().collect::<Vec<_>>(), [&kept]);
        for (mode, repetition, expected) in [(Mode::Lazy, 2, true), (Mode::Lazy, 1, false), (Mode::Full, 2, false)] {
            assert_eq!(again.has(&cell(mode), repetition), expected, "{mode:?} {repetition}");
        }
        let crowd = Cell { containers: 8, ..cell(Mode::Lazy) };
        assert!(!again.has(&crowd, 2));
        again.add(Record::Run(run(crowd, 1, 9.0))).unwrap();
        assert_eq!(Records::open(&results, "new").unwrap().runs().count(), 2);
        // Records of other builds are ignored, but stay in the file.
        assert_eq!(Records::open(&results, "other").unwrap().runs().count(), 0);
        assert_eq!(Records::open(&results, "new").unwrap().runs().count(), 2);
    }

    #[test]
    fn a_line_that_is_no_record_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "{}\n").unwrap();
        let error = format!("{:#}", Records::open(directory.path(), "").unwrap_err());
        assert!(error.contains("line 1"), "{error}");
    }
}
