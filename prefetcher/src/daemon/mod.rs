//! Accepts requests and runs them ([`run`]): finds the bundle, plans, has it delivered, counts.

mod renewal;
mod run;

use std::sync::Arc;
use std::time::Duration;

use bundles::store::{Store, StoreError};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::cache::{CacheError, mount_reader};
use crate::config::Config;
use crate::delivery;
use crate::fetch::Fetcher;
use crate::metrics::{self, Metrics};
use crate::mount::page_cache::Preloader;
use crate::repository::Repository;
use crate::repository::settings::{Settings, SettingsError};
use crate::request::spec::PrefetchSpec;
use crate::request::{Admitted, MAX_ENDED, MAX_RUNNING, Requests, TooMany};
use crate::source::Sources;
use crate::throttle::Throttle;

/// The daemon, apart from its socket.
///
/// It accepts requests as soon as it was [opened](Daemon::open). They start when [`Daemon::load_settings`] has found out how its
/// repositories are served, which can take seconds: programs and mounts of the CVMFS client are queried for that.
#[derive(Debug)]
pub struct Daemon {
    requests: Arc<Requests>,
    metrics: Metrics,
    counters: metrics::Shared,
    sources: Arc<Sources>,
    /// `None` until the settings are known.
    delivery: watch::Sender<Option<Arc<delivery::Context>>>,
    tasks: TaskTracker,
    /// Set when no more objects may be started.
    shutdown: CancellationToken,
    /// Set when unfinished objects are dropped.
    aborting: CancellationToken,
}

/// Why the daemon cannot serve its repositories.
#[derive(Debug, thiserror::Error)]
pub enum SettingsUnusable {
    /// The HTTP client cannot be created.
    #[error("cannot set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// There is no repository, or one cannot be served.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another daemon fills the same cache.
    #[error(transparent)]
    Cache(CacheError),
}

/// Why a request is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many requests are running.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The daemon is shutting down.
    #[error("the prefetch daemon is shutting down")]
    Stopping,
}

impl Daemon {
    /// Opens the store. Blocks for as long as a local disk does.
    pub fn open(config: &Config) -> Result<Arc<Self>, StoreError> {
        let store = Arc::new(Store::open(&config.store, config.store_max_bytes)?);
        let requests = Requests::new(MAX_RUNNING, MAX_ENDED);
        let sources = Sources::new(store, config.registries.clone(), config.lookup_timeout, config.absent_ttl);
        let counters = metrics::Shared { damaged_bundles: sources.damaged().clone(), ..metrics::Shared::default() };
        Ok(Arc::new(Self {
            metrics: Metrics::new(requests.clone(), counters.clone()),
            requests,
            counters,
            sources: Arc::new(sources),
            delivery: watch::Sender::new(None),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            aborting: CancellationToken::new(),
        }))
    }

    /// Finds out how the repositories are served, opens their caches and starts the requests that wait for it. Blocks for as
    /// long as `cvmfs_config` and the mounts do, within their timeouts. Must be called in a tokio runtime, off its asynchronous
    /// threads.
    pub fn load_settings(self: &Arc<Self>, config: &Config) -> Result<(), SettingsUnusable> {
        let all_settings = Settings::all(config)?;
        for settings in &all_settings {
            for note in &settings.notes {
                warn!(repository = settings.name, note, "cannot read a setting of the CVMFS client");
            }
        }
        let mounts = all_settings.iter().map(|settings| settings.mount.clone()).collect();
        let mount_reads = Arc::new(Semaphore::new(mount_reader::READS));
        let repositories = Repository::all(all_settings, config, &mount_reads)?;
        for repository in repositories.values() {
            match repository.destination.prepare() {
                Ok(()) => {}
                Err(error @ CacheError::InUse(_)) => return Err(SettingsUnusable::Cache(error)),
                Err(error) => warn!(repository = repository.name, %error, "cache not usable yet"),
            }
        }
        let throttle = Throttle {
            repositories: repositories.values().cloned().collect(),
            mount_reads: mount_reads.clone(),
            running: self.requests.running(),
            shutdown: self.shutdown.clone(),
            connection_share: self.counters.connection_share.clone(),
        };
        let skipped = self.counters.page_cache_skipped.clone();
        let context = delivery::Context {
            repositories,
            fetcher: Fetcher::new(config.max_bytes_per_second),
            sources: self.sources.clone(),
            page_cache: Preloader::new(config.page_cache_threads, &mount_reads, skipped),
            max_connections: config.max_connections,
            shutdown: self.shutdown.clone(),
        };
        self.sources.set_mounts(mounts);
        self.delivery.send_replace(Some(Arc::new(context)));
        info!("settings loaded");
        self.tasks.spawn(throttle.watch());
        self.watch_revisions(config);
        Ok(())
    }

    /// All requests.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Where bundles come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The metrics in the text format that Prometheus reads.
    pub async fn metrics(&self) -> String {
        self.metrics.text(self.sources.usage().await.ok())
    }

    /// Waits until the daemon starts to shut down.
    pub async fn shutting_down(&self) {
        self.shutdown.cancelled().await;
    }

    /// Registers a request and returns its ID at once.
    pub fn prefetch(self: &Arc<Self>, asked: PrefetchSpec) -> Result<u64, Refused> {
        if self.shutdown.is_cancelled() {
            return Err(Refused::Stopping);
        }
        let running = match self.requests.admit(&asked)? {
            Admitted::New(running) => running,
            Admitted::Joined(request) => {
                info!(request = request.id, correlation_id = asked.correlation_id, "request joined by another call");
                return Ok(request.id);
            }
        };
        let request = running.request();
        if self.delivery.borrow().is_none() {
            request.set_waiting_for_settings(true);
        }
        let id = request.id;
        let span = info_span!("prefetch", request = id, correlation_id = request.correlation_id);
        span.in_scope(|| {
            let image = request.query.to_api();
            info!(
                chain_id = image.chain_id,
                manifest = image.manifest_digest,
                reference = image.reference,
                priority = request.priority().name(),
                "request"
            );
        });
        let daemon = self.clone();
        let run = async move {
            tokio::select! {
                () = daemon.aborting.cancelled() => warn!("request dropped: the daemon is shutting down"),
                () = daemon.run(running, asked.bundle) => {}
            }
        };
        self.tasks.spawn(run.instrument(span));
        Ok(id)
    }

    /// What deliveries need, once the settings are known; none if the daemon shuts down before.
    async fn delivery(&self) -> Option<Arc<delivery::Context>> {
        let mut delivery = self.delivery.subscribe();
        tokio::select! {
            biased;
            context = delivery.wait_for(Option::is_some) => context.ok()?.clone(),
            () = self.shutdown.cancelled() => None,
        }
    }

    fn known_repositories(&self) -> Vec<Arc<Repository>> {
        self.delivery.borrow().iter().flat_map(|context| context.repositories.values().cloned()).collect()
    }

    /// Shuts down: accepts and starts nothing more, waits at most `timeout` for running downloads, drops the rest.
    pub async fn drain(&self, timeout: Duration) {
        self.shutdown.cancel();
        info!(requests = self.tasks.len(), "draining");
        self.tasks.close();
        if tokio::time::timeout(timeout, self.tasks.wait()).await.is_err() {
            self.aborting.cancel();
            self.tasks.wait().await;
        }
    }

    /// Removes temporary files of unfinished objects. To be called when nothing runs any more.
    pub fn clean(&self) {
        for repository in self.known_repositories() {
            repository.destination.clean();
        }
    }
}
