//! What sending prefetch requests adds to the Prepare of a container's snapshot, in each state of the prefetch daemon.
//!
//! Four snapshotters that differ only in their `prefetch_socket` are called in turn. Their roots are in memory (tmpfs), because
//! a busy disk adds more to single calls than the difference measured here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;
use testbed::node::{Node, SNAPSHOTTER};
use testbed::process::Daemon;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::calls::Snapshotter;
use super::chain::Chain;
use crate::statistics::Quantiles;

const STOP: Duration = Duration::from_secs(20);

/// State of the prefetch daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// No daemon is configured.
    Unconfigured,
    /// The daemon runs.
    Up,
    /// The socket does not exist.
    Absent,
    /// The daemon accepts connections and never responds.
    Hung,
}

impl State {
    const ALL: [Self; 4] = [Self::Unconfigured, Self::Up, Self::Absent, Self::Hung];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unconfigured => "unconfigured",
            Self::Up => "up",
            Self::Absent => "absent",
            Self::Hung => "hung",
        }
    }

    /// Whether the snapshotter's counters are consistent with this state.
    fn matches(self, sent: u64, lost: u64) -> bool {
        match self {
            Self::Unconfigured => sent == 0 && lost == 0,
            Self::Up => sent > 0 && lost == 0,
            Self::Absent | Self::Hung => sent == 0 && lost > 0,
        }
    }
}

/// Latency of Prepare in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PrepareTimes {
    pub(super) state: State,
    pub(super) prepare: Quantiles,
}

/// A snapshotter and the state of its daemon.
struct Subject {
    state: State,
    process: Daemon,
    snapshotter: Snapshotter,
    /// Name of the top layer's snapshot.
    parent: String,
    /// Latencies in milliseconds.
    prepares: Vec<f64>,
}

/// Measures every state `prepares` times. The node's prefetch daemon must run.
pub(super) async fn measure(node: &Node, chain: &Chain, prepares: usize) -> Result<Vec<PrepareTimes>> {
    let silent = SilentSocket::start(node.directory().join("silent.sock"))?;
    let mut subjects = Vec::new();
    for state in State::ALL {
        let prefetch = match state {
            State::Unconfigured => None,
            State::Up => Some(node.prefetch_socket()),
            State::Absent => Some(node.directory().join("absent.sock")),
            State::Hung => Some(silent.path.clone()),
        };
        subjects.push(Subject::start(node, chain, state, prefetch.as_deref()).await?);
    }
    let mut random = StdRng::seed_from_u64(1);
    eprintln!("Prepare with each state of the prefetch daemon, {prepares} times each ...");
    for number in 0..prepares {
        for subject in &mut subjects {
            let pair = subject.snapshotter.pair(&format!("k8s.io/3/container-{number}"), &subject.parent).await?;
            subject.prepares.push(pair.prepare.as_secs_f64() * 1e3);
        }
        // No subject always follows the one whose daemon is still working.
        subjects.shuffle(&mut random);
    }
    subjects.sort_by_key(|subject| subject.state as u8);
    subjects.into_iter().map(Subject::finish).collect()
}

impl Subject {
    async fn start(node: &Node, chain: &Chain, state: State, prefetch: Option<&Path>) -> Result<Self> {
        // Unmounted at the end of the run, with the site's other mounts.
        let root = node.snapshotter_root(state.name());
        std::fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        let (process, socket) = node.start_snapshotter(state.name(), prefetch)?;
        let mut snapshotter = Snapshotter::connect(&socket, SNAPSHOTTER).await?;
        let parent = snapshotter.prepare_layers(chain).await?;
        // The first call of a connection is not measured.
        snapshotter.pair("k8s.io/2/first", &parent).await?;
        Ok(Self { state, process, snapshotter, parent, prepares: Vec::new() })
    }

    /// Stops the snapshotter and checks by its counters that the daemon was in the intended state.
    fn finish(mut self) -> Result<PrepareTimes> {
        self.process.stop(STOP)?;
        let log = self.process.log();
        let state = self.state;
        let sent = counter(&log, "sent")?;
        let lost = counter(&log, "failed")? + counter(&log, "dropped")?;
        ensure!(state.matches(sent, lost), "daemon {}: {sent} prefetch requests were sent, {lost} lost", state.name());
        let prepare = Quantiles::from_values(self.prepares);
        Ok(PrepareTimes { state, prepare: prepare.context("nothing was measured: at least one repetition is needed")? })
    }
}

/// The number of prefetch requests with this outcome, from the counters that a snapshotter logs when it stops.
fn counter(log: &str, outcome: &str) -> Result<u64> {
    let (_, counters) = log.rsplit_once(" stopped counters=").context("the snapshotter did not log its counters")?;
    let name = format!("prefetch_requests_total{{outcome=\"{outcome}\"}}");
    let mut words = counters.split_whitespace().filter_map(|word| word.rsplit_once('='));
    let (_, value) = words.find(|(key, _)| *key == name).with_context(|| format!("no {name} in {counters:?}"))?;
    Ok(value.parse()?)
}

/// Latency that each state adds at the 99th percentile, in milliseconds, compared with no daemon.
pub(super) fn added(found: &[PrepareTimes]) -> Result<Vec<(&'static str, f64)>> {
    let without = found.iter().find(|times| times.state == State::Unconfigured).context("a state is missing")?;
    let others = found.iter().filter(|times| times.state != State::Unconfigured);
    Ok(others.map(|times| (times.state.name(), times.prepare.p99 - without.prepare.p99)).collect())
}

/// A socket that accepts every connection and never responds.
struct SilentSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl SilentSocket {
    fn start(path: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
        let task = tokio::spawn(async move {
            let mut connections: Vec<UnixStream> = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
            }
        });
        Ok(Self { path, task })
    }
}

impl Drop for SilentSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_are_read_from_the_last_stop() {
        let stopped = |sent: u64, failed: u64| {
            let count = |outcome, count| format!("prefetch_requests_total{{outcome=\"{outcome}\"}}={count}");
            format!("INFO server: stopped counters={} {}\n", count("sent", sent), count("failed", failed))
        };
        let log = format!("{}INFO server: serving\n{}", stopped(1, 0), stopped(12, 3));
        assert_eq!(counter(&log, "sent").unwrap(), 12);
        assert_eq!(counter(&log, "failed").unwrap(), 3);
        assert!(counter(&log, "dropped").is_err() && counter("INFO server: serving\n", "sent").is_err());
    }

    #[test]
    fn latency_is_compared_with_no_daemon() {
        let times = |state, p99: f64| {
            let prepare = Quantiles { count: 1, median: 1.0, p90: 1.0, p99, most: 9.0 };
            PrepareTimes { state, prepare }
        };
        let found = [times(State::Up, 3.5), times(State::Unconfigured, 3.0), times(State::Hung, 2.0)];
        assert_eq!(added(&found).unwrap(), [("up", 0.5), ("hung", -1.0)]);
        assert!(added(&found[..1]).is_err());
    }
}
