//! Requests to the prefetch daemon, as a snapshotter sends them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::proto::{self, RequestState, RequestStatus, Tally};
use bundles::bundle::Bundle;
use testbed::node::CvmfsSpec;
use testbed::site::{Site, label};
use testbed::web::Request;

use super::bench_node::BenchNode;
use super::workload::Workload;
use crate::condition::Condition;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Gives the daemon the same scheduling priority as the other methods.
const NORMAL_PRIORITY: &str = "nice = 0";

/// A measured request.
#[derive(Debug, Clone)]
pub(super) struct Prefetch {
    /// From the request to its end.
    pub(super) took: Duration,
    pub(super) tally: Tally,
    /// Time of the bundle lookup.
    pub(super) lookup: Duration,
    /// Processor time of the daemon.
    pub(super) cores: Duration,
    /// Requests of the daemon to the server, with their times since the request.
    pub(super) requests: Vec<(Duration, Request)>,
}

impl Prefetch {
    /// Time of the first request to the server.
    pub(super) fn first_request(&self) -> Option<Duration> {
        self.requests.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.requests.iter().map(|(_, request)| request.bytes).sum()
    }
}

/// A node whose daemon keeps its bundles in the site's directory, so that the next node finds them there.
pub(super) fn with_daemon(site: &Site, options: &[String]) -> CvmfsSpec {
    let store = Some(site.directory.path().join("store"));
    let daemon_options = [&[NORMAL_PRIORITY.to_owned()], options].concat().join("\n");
    CvmfsSpec { daemon: true, store, daemon_options, ..CvmfsSpec::default() }
}

/// A request by image: the daemon finds the bundle in its store or in the repository.
pub(super) fn by_name(bundle: &Bundle) -> proto::PrefetchRequest {
    let chain_id = bundle.image.chain_id.to_string();
    let image = Some(proto::Image { chain_id, ..proto::Image::default() });
    proto::PrefetchRequest { image, ..proto::PrefetchRequest::default() }
}

/// A request that contains the bundle.
pub(super) fn by_content(bundle: &Bundle) -> Result<proto::PrefetchRequest> {
    Ok(proto::PrefetchRequest { bundle: bundle.to_bytes()?, ..proto::PrefetchRequest::default() })
}

/// Sends a request to the node's daemon and waits for its end.
pub(super) async fn prefetch(site: &Site, node: &BenchNode, request: proto::PrefetchRequest) -> Result<Prefetch> {
    let daemon = node.daemon();
    // Opens the connection.
    daemon.list().await?;
    let before = node.daemon_cores()?;
    site.origin.take_requests();
    let begin = Instant::now();
    let origin_time = site.origin.now();
    let id = daemon.submit(request).await?;
    let status = daemon.wait(id, TIMEOUT).await?;
    let took = begin.elapsed();
    let cores = node.daemon_cores()? - before;
    let tally = finished(node, &status)?;
    let mut requests = site.origin.take_requests();
    requests.retain(|request| request.client == label::DAEMON);
    let requests = requests.into_iter().map(|request| (request.started.saturating_sub(origin_time), request)).collect();
    Ok(Prefetch { took, tally, lookup: Duration::from_micros(status.lookup_us), cores, requests })
}

/// The tally of a request, which must have fetched everything.
pub(super) fn finished(node: &BenchNode, status: &RequestStatus) -> Result<Tally> {
    let tally = status.tally.context("a status has an tally")?;
    if status.state() != RequestState::Done {
        let log = node.cvmfs.daemon.as_ref().map(testbed::process::Daemon::log).unwrap_or_default();
        bail!("the request ended with {status:?}; the daemon's log:\n{log}");
    }
    ensure!(tally.failed_objects == 0 && tally.skipped_objects == 0, "some objects were not fetched: {tally:?}");
    Ok(tally)
}

/// Makes a daemon bring the bundle into its store.
pub(super) async fn prime(site: &Site, workload: &Workload) -> Result<()> {
    let node = BenchNode::start(site, &Condition::latency(0), with_daemon(site, &[]))?;
    prefetch(site, &node, by_name(&workload.packed)).await.map(drop)
}
