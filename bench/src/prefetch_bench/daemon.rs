//! The prefetch daemon, asked as a snapshotter asks it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bundles::bundle::Bundle;
use prefetcher::api::{self, Account, RequestState, RequestStatus};
use testbed::node::CvmfsSpec;
use testbed::site::{Site, label};
use testbed::web::Request;

use super::place::Place;
use super::workload::Workload;
use crate::condition::Condition;

/// No request takes so long.
const LONG: Duration = Duration::from_secs(600);
/// The daemon's cores are to be counted like those of the other ways.
const AS_NICE_AS_OTHERS: &str = "nice = 0";

/// How a prefetch went.
#[derive(Debug, Clone)]
pub(super) struct Prefetch {
    /// From the call to the end.
    pub(super) took: Duration,
    pub(super) account: Account,
    /// Until the bundle was found.
    pub(super) lookup: Duration,
    /// What the daemon has used of the node's cores.
    pub(super) cores: Duration,
    /// What the daemon asked of the server, and when: since the call.
    pub(super) requests: Vec<(Duration, Request)>,
}

impl Prefetch {
    /// When the first request came to the server.
    pub(super) fn first_request(&self) -> Option<Duration> {
        self.requests.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.requests.iter().map(|(_, request)| request.bytes).sum()
    }
}

/// A node with a daemon that keeps its bundles in the site's own directory: they are there at the next start.
pub(super) fn with_daemon(site: &Site, options: &[String]) -> CvmfsSpec {
    let store = Some(site.directory.path().join("store"));
    let daemon_options = [&[AS_NICE_AS_OTHERS.to_owned()], options].concat().join("\n");
    CvmfsSpec { daemon: true, store, daemon_options, ..CvmfsSpec::default() }
}

/// By name: the bundle is in the daemon's store, or in the repository.
pub(super) fn by_name(bundle: &Bundle) -> api::PrefetchRequest {
    let chain_id = bundle.image.chain_id.to_string();
    let image = Some(api::Image { chain_id, ..api::Image::default() });
    api::PrefetchRequest { image, ..api::PrefetchRequest::default() }
}

/// With the bundle itself.
pub(super) fn by_content(bundle: &Bundle) -> Result<api::PrefetchRequest> {
    Ok(api::PrefetchRequest { bundle: bundle.to_bytes()?, ..api::PrefetchRequest::default() })
}

/// Asks the place's daemon and waits for the end.
pub(super) async fn prefetch(site: &Site, place: &Place, request: api::PrefetchRequest) -> Result<Prefetch> {
    let daemon = place.daemon();
    // Connects.
    daemon.list().await?;
    let before = place.daemon_cores()?;
    site.origin.take_requests();
    let (begun, called) = (Instant::now(), site.origin.now());
    let id = daemon.ask(request).await?;
    let status = daemon.wait(id, LONG).await?;
    let took = begun.elapsed();
    let cores = place.daemon_cores()? - before;
    let account = finished(place, &status)?;
    let mut requests = site.origin.take_requests();
    requests.retain(|request| request.client == label::DAEMON);
    let requests = requests.into_iter().map(|request| (request.started.saturating_sub(called), request)).collect();
    Ok(Prefetch { took, account, lookup: Duration::from_micros(status.lookup_us), cores, requests })
}

/// The account of a request that brought everything.
pub(super) fn finished(place: &Place, status: &RequestStatus) -> Result<Account> {
    let account = status.account.context("a status has an account")?;
    if status.state() != RequestState::Done {
        let log = place.cvmfs.daemon.as_ref().map(testbed::process::Daemon::log).unwrap_or_default();
        bail!("the request ended with {status:?}; the daemon's log:\n{log}");
    }
    ensure!(account.failed_objects == 0 && account.skipped_objects == 0, "not all came: {account:?}");
    Ok(account)
}

/// Has a daemon bring the bundle into its store.
pub(super) async fn prime(site: &Site, workload: &Workload) -> Result<()> {
    let place = Place::start(site, &Condition::of(0), with_daemon(site, &[]))?;
    prefetch(site, &place, by_name(&workload.packed)).await.map(drop)
}
