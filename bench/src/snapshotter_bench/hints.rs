//! What giving hints adds to the Prepare of a container's snapshot, whatever the prefetch daemon does.
//!
//! Four plugins that differ in nothing but where they give hints to are asked in turn. Their roots are in memory
//! (tmpfs): what a busy disk adds to single calls is more than what is looked for.

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

/// The prefetch daemon as a plugin finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// The plugin's configuration has none.
    Unconfigured,
    /// It runs.
    Up,
    /// There is no socket.
    Absent,
    /// It takes connections and never answers.
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

    /// What the plugin's counters must show for the daemon to have been in this state.
    fn is_shown_by(self, sent: u64, lost: u64) -> bool {
        match self {
            Self::Unconfigured => sent == 0 && lost == 0,
            Self::Up => sent > 0 && lost == 0,
            Self::Absent | Self::Hung => sent == 0 && lost > 0,
        }
    }
}

/// What Prepare took, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Hinted {
    pub(super) state: State,
    pub(super) prepare: Quantiles,
}

/// A plugin with such a daemon.
struct Subject {
    state: State,
    plugin: Daemon,
    snapshotter: Snapshotter,
    /// The topmost layer's name.
    parent: String,
    /// Milliseconds.
    prepares: Vec<f64>,
}

/// Measures every state `prepares` times. The node's prefetch daemon runs.
pub(super) async fn measure(node: &Node, chain: &Chain, prepares: usize) -> Result<Vec<Hinted>> {
    let silent = Silent::start(node.directory().join("silent.sock"))?;
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
        // Nobody always comes after the one whose daemon is still at work.
        subjects.shuffle(&mut random);
    }
    subjects.sort_by_key(|subject| subject.state as u8);
    subjects.into_iter().map(Subject::finish).collect()
}

impl Subject {
    async fn start(node: &Node, chain: &Chain, state: State, prefetch: Option<&Path>) -> Result<Self> {
        // The site's mounts go with its run.
        let root = node.plugin_root(state.name());
        std::fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        let (plugin, socket) = node.start_plugin(state.name(), prefetch)?;
        let mut snapshotter = Snapshotter::connect(&socket, SNAPSHOTTER).await?;
        let parent = snapshotter.take(chain).await?;
        // The first call of a connection is not what is measured.
        snapshotter.pair("k8s.io/2/first", &parent).await?;
        Ok(Self { state, plugin, snapshotter, parent, prepares: Vec::new() })
    }

    /// Stops the plugin, and sees by its counters that the daemon was in the state that it was to be in.
    fn finish(mut self) -> Result<Hinted> {
        self.plugin.stop(STOP)?;
        let (log, state) = (self.plugin.log(), self.state);
        let sent = counter(&log, "sent")?;
        let lost = counter(&log, "failed")? + counter(&log, "dropped")?;
        ensure!(state.is_shown_by(sent, lost), "daemon {}: {sent} hints were taken, {lost} lost", state.name());
        let prepare = Quantiles::of(self.prepares);
        Ok(Hinted { state, prepare: prepare.context("nothing was measured: ask for at least one repetition")? })
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

/// What each state adds at the 99th percentile to no daemon at all, in milliseconds.
pub(super) fn added(found: &[Hinted]) -> Result<Vec<(&'static str, f64)>> {
    let without = found.iter().find(|one| one.state == State::Unconfigured).context("a state is missing")?;
    let others = found.iter().filter(|one| one.state != State::Unconfigured);
    Ok(others.map(|one| (one.state.name(), one.prepare.p99 - without.prepare.p99)).collect())
}

/// A socket that takes every connection and never says anything.
struct Silent {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Silent {
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

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_counter_is_read_from_the_last_stop() {
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
    fn what_is_added_is_against_the_plugin_without_a_daemon() {
        let of = |state, p99: f64| {
            let prepare = Quantiles { count: 1, median: 1.0, p90: 1.0, p99, most: 9.0 };
            Hinted { state, prepare }
        };
        let found = [of(State::Up, 3.5), of(State::Unconfigured, 3.0), of(State::Hung, 2.0)];
        assert_eq!(added(&found).unwrap(), [("up", 0.5), ("hung", -1.0)]);
        assert!(added(&found[..1]).is_err());
    }
}
