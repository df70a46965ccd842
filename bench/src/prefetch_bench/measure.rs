//! Measures each method of filling a cache once, from an empty cache.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use testbed::node::CvmfsSpec;
use testbed::readers;
use testbed::site::{Site, label};

use super::bench_node::BenchNode;
use super::daemon::{self, Prefetch, by_content, by_name, with_daemon};
use super::method::Method;
use super::options::Options;
use super::workload::Workload;
use super::{limit::StoredObjects, plain};
use crate::condition::Condition;

/// From this round trip on, sequential reading reads only a sample.
const SAMPLED_FROM: Duration = Duration::from_millis(20);
/// Files of the sample, from which the time is extrapolated.
const SAMPLE: usize = 200;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) workload: &'static str,
    pub(super) method: Method,
    pub(super) condition: Condition,
    pub(super) seconds: f64,
    /// Extrapolated from a sample.
    pub(super) sampled: bool,
    /// Times of the method's requests at the server, in seconds since the first; without the mounted client's when the daemon
    /// fetches.
    pub(super) requests_at: Vec<f64>,
    pub(super) bytes: u64,
    /// Times of the daemon, in seconds since the request.
    pub(super) prefetch: Option<Times>,
}

/// Times of a request, as reported by the daemon and seen by the server.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Times {
    pub(super) lookup: f64,
    pub(super) first_request: f64,
    pub(super) first_byte: f64,
    pub(super) critical: f64,
    /// Processor time of the daemon.
    pub(super) cores: f64,
}

/// Measures one method once.
pub(super) async fn measure(
    site: &Site,
    (name, workload): (&'static str, &Workload),
    stored: &StoredObjects<'_>,
    condition: Condition,
    method: Method,
    options: &Options,
) -> Result<Run> {
    let run = Run {
        workload: name,
        method,
        condition,
        seconds: 0.0,
        sampled: false,
        requests_at: Vec::new(),
        bytes: 0,
        prefetch: None,
    };
    match method {
        Method::Sequential | Method::Readers8 | Method::Readers16 | Method::Readers64 => read(site, workload, run),
        Method::Plain => {
            let node = BenchNode::start(site, &condition, CvmfsSpec::default())?;
            site.origin.take_requests();
            let directory = node.path().join("plain");
            let took = plain::fetch_all(&workload.plain, &site.daemon_url(), node.proxy(), &directory).await?;
            Ok(with_requests(site, label::DAEMON, Run { seconds: took.as_secs_f64(), ..run }))
        }
        Method::Objects | Method::Packs => {
            let node = BenchNode::start(site, &condition, with_daemon(site, &options.daemon))?;
            let request = match method {
                Method::Packs => by_name(&workload.packed),
                _ => by_content(&workload.plain)?,
            };
            Ok(prefetched(run, &daemon::prefetch(site, &node, request).await?))
        }
        Method::Limit => {
            let cores = stored.unpacked_on_all_cores(None)?;
            Ok(Run { seconds: stored.limit(&condition, cores).as_secs_f64(), ..run })
        }
    }
}

fn read(site: &Site, workload: &Workload, run: Run) -> Result<Run> {
    let node = BenchNode::start(site, &run.condition, CvmfsSpec::default())?;
    let sampled = run.method == Method::Sequential && run.condition.round_trip() >= SAMPLED_FROM;
    let files: &[PathBuf] = &workload.files;
    let files = if sampled { &files[..SAMPLE.min(files.len())] } else { files };
    site.origin.take_requests();
    let took = readers::read_all(node.mount(), files, run.method.readers())?;
    let seconds = took.as_secs_f64() * workload.files.len() as f64 / files.len() as f64;
    Ok(with_requests(site, label::CLIENT, Run { seconds, sampled, ..run }))
}

/// Adds what the server logged for `client`.
fn with_requests(site: &Site, client: &str, run: Run) -> Run {
    let requests = site.origin.take_requests();
    let own: Vec<_> = requests.iter().filter(|request| request.client == client).collect();
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
        first_byte: microseconds(prefetch.tally.time_to_first_byte_us),
        critical: microseconds(prefetch.tally.time_to_critical_us),
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
