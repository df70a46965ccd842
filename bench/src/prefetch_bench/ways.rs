//! The ways to a full cache, each measured once from an empty one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use testbed::node::CvmfsSpec;
use testbed::site::{Site, label};

use super::daemon::{self, Prefetch, by_content, by_name, with_daemon};
use super::options::Options;
use super::place::Place;
use super::workload::Workload;
use super::{limit::Stored, plain};
use crate::condition::Condition;
use crate::readers;

/// From this distance on, what reads one file after the other does so with a sample only.
const FAR: Duration = Duration::from_millis(20);
/// The sample's size. What it took is multiplied.
const SAMPLE: usize = 200;

/// How the files are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Read through the mount one after the other.
    Sequential,
    /// Read through the mount by 8, as a client does that is told which files belong together.
    Readers8,
    /// By 16.
    Readers16,
    /// By 64.
    Readers64,
    /// Plain requests for all objects over 64 connections.
    Plain,
    /// By the daemon, object by object.
    Objects,
    /// By the daemon with packs.
    Packs,
    /// What cannot be beaten.
    Limit,
}

impl Way {
    pub(super) const ALL: [Self; 8] = [
        Self::Sequential,
        Self::Readers8,
        Self::Readers16,
        Self::Readers64,
        Self::Plain,
        Self::Objects,
        Self::Packs,
        Self::Limit,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential reads",
            Self::Readers8 => "8 readers",
            Self::Readers16 => "16 readers",
            Self::Readers64 => "64 readers",
            Self::Plain => "64 plain requests",
            Self::Objects => "daemon, objects",
            Self::Packs => "daemon, packs",
            Self::Limit => "limit",
        }
    }

    fn readers(self) -> usize {
        match self {
            Self::Sequential => 1,
            Self::Readers8 => 8,
            Self::Readers64 => 64,
            _ => 16,
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) workload: &'static str,
    pub(super) way: Way,
    pub(super) condition: Condition,
    pub(super) seconds: f64,
    /// Of a sample only, multiplied.
    pub(super) sampled: bool,
    /// At the server, in seconds since the first; of the way's own, not of the client's that the daemon asks.
    pub(super) requests_at: Vec<f64>,
    pub(super) bytes: u64,
    /// Of the daemon, in seconds since the call.
    pub(super) prefetch: Option<Times>,
}

/// What the daemon tells of a request, and what the server saw of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Times {
    pub(super) lookup: f64,
    pub(super) first_request: f64,
    pub(super) first_byte: f64,
    pub(super) critical: f64,
    /// Of all cores.
    pub(super) cores: f64,
}

/// Measures one way once.
pub(super) async fn measure(
    site: &Site,
    (name, workload): (&'static str, &Workload),
    stored: &Stored<'_>,
    condition: Condition,
    way: Way,
    options: &Options,
) -> Result<Run> {
    let run = Run {
        workload: name,
        way,
        condition,
        seconds: 0.0,
        sampled: false,
        requests_at: Vec::new(),
        bytes: 0,
        prefetch: None,
    };
    match way {
        Way::Sequential | Way::Readers8 | Way::Readers16 | Way::Readers64 => read(site, workload, run),
        Way::Plain => {
            let place = Place::start(site, &condition, CvmfsSpec::default())?;
            site.origin.take_requests();
            let directory = place.path().join("plain");
            let took = plain::fetch_all(&workload.plain, &site.daemon_url(), place.proxy(), &directory).await?;
            Ok(seen(site, label::DAEMON, Run { seconds: took.as_secs_f64(), ..run }))
        }
        Way::Objects | Way::Packs => {
            let place = Place::start(site, &condition, with_daemon(site, &options.daemon))?;
            let request = match way {
                Way::Packs => by_name(&workload.packed),
                _ => by_content(&workload.plain)?,
            };
            Ok(prefetched(run, &daemon::prefetch(site, &place, request).await?))
        }
        Way::Limit => {
            let cores = stored.unpacked_on_all_cores(None)?;
            Ok(Run { seconds: stored.limit(&condition, cores).as_secs_f64(), ..run })
        }
    }
}

fn read(site: &Site, workload: &Workload, run: Run) -> Result<Run> {
    let place = Place::start(site, &run.condition, CvmfsSpec::default())?;
    let sampled = run.way == Way::Sequential && run.condition.round_trip() >= FAR;
    let files: &[PathBuf] = &workload.files;
    let files = if sampled { &files[..SAMPLE.min(files.len())] } else { files };
    site.origin.take_requests();
    let took = readers::read_all(place.mount(), files, run.way.readers())?;
    let seconds = took.as_secs_f64() * workload.files.len() as f64 / files.len() as f64;
    Ok(seen(site, label::CLIENT, Run { seconds, sampled, ..run }))
}

/// With what the server saw.
fn seen(site: &Site, who: &str, run: Run) -> Run {
    let requests = site.origin.take_requests();
    let own: Vec<_> = requests.iter().filter(|request| request.client == who).collect();
    let first = own.iter().map(|request| request.started).min().unwrap_or_default();
    let requests_at = own.iter().map(|request| (request.started - first).as_secs_f64()).collect();
    Run { requests_at, bytes: own.iter().map(|request| request.bytes).sum(), ..run }
}

fn prefetched(run: Run, prefetch: &Prefetch) -> Run {
    let first = prefetch.first_request().unwrap_or_default();
    let microseconds = |us: u64| us as f64 / 1e6;
    let times = Times {
        lookup: prefetch.lookup.as_secs_f64(),
        first_request: first.as_secs_f64(),
        first_byte: microseconds(prefetch.account.time_to_first_byte_us),
        critical: microseconds(prefetch.account.time_to_critical_us),
        cores: prefetch.cores.as_secs_f64(),
    };
    Run {
        seconds: prefetch.took.as_secs_f64(),
        requests_at: prefetch.requests.iter().map(|(at, _)| (*at - first).as_secs_f64()).collect(),
        bytes: prefetch.bytes(),
        prefetch: Some(times),
        ..run
    }
}
