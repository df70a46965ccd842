//! Accepts requests and runs them ([`run`]): finds the bundle, plans, has it delivered, counts.

mod renewal;
mod run;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bundles::store::{Store, StoreError};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::cache::{self, SinkError};
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
#[derive(Debug)]
pub struct Daemon {
    requests: Arc<Requests>,
    metrics: Metrics,
    sources: Arc<Sources>,
    delivery: delivery::Context,
    /// What may be read through mounts at a time.
    mount_reads: Arc<Semaphore>,
    connection_share: Gauge<f64, AtomicU64>,
    tasks: TaskTracker,
    /// Set when no more objects may be started.
    shutdown: CancellationToken,
    /// Set when unfinished objects are dropped.
    aborting: CancellationToken,
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No HTTP client.
    #[error("cannot set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// No repository, or one that cannot be served.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Two daemons for one cache.
    #[error(transparent)]
    Sink(SinkError),
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Ask later.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Ask the next daemon.
    #[error("the prefetch daemon is stopping")]
    Stopping,
}

impl Daemon {
    /// Opens the store and the caches. Blocks.
    pub fn start(config: &Config) -> Result<Arc<Self>, StartError> {
        let store = Store::open(&config.store, config.store_max_bytes)?;
        let settings = Settings::all(config)?;
        for (repository, note) in settings.iter().flat_map(|one| one.notes.iter().map(move |note| (&one.name, note))) {
            warn!(repository, note, "not learned from the CVMFS client");
        }
        let mounts = settings.iter().map(|one| one.mount.clone()).collect();
        let mount_reads = Arc::new(Semaphore::new(cache::through_mount::READS));
        let repositories = Repository::all(settings, config, &mount_reads)?;
        for repository in repositories.values() {
            match repository.sink.prepare() {
                Ok(()) => {}
                Err(error @ SinkError::InUse(_)) => return Err(StartError::Sink(error)),
                Err(error) => warn!(repository = repository.name, %error, "cache not usable yet"),
            }
        }
        let requests = Requests::new(MAX_RUNNING, MAX_ENDED);
        let sources =
            Sources::new(Arc::new(store), mounts, config.registries.clone(), config.lookup_timeout, config.absent_ttl);
        let sources = Arc::new(sources);
        let page_cache = Preloader::new(config.page_cache_threads, &mount_reads);
        let connection_share = Gauge::default();
        let counters = metrics::Shared {
            damaged_bundles: sources.damaged().clone(),
            page_cache_skipped: page_cache.skipped().clone(),
            connection_share: connection_share.clone(),
        };
        let shutdown = CancellationToken::new();
        Ok(Arc::new(Self {
            metrics: Metrics::new(requests.clone(), counters),
            requests,
            delivery: delivery::Context {
                repositories,
                fetcher: Fetcher::new(config.max_bytes_per_second),
                sources: sources.clone(),
                page_cache,
                max_connections: config.max_connections,
                shutdown: shutdown.clone(),
            },
            sources,
            mount_reads,
            connection_share,
            tasks: TaskTracker::new(),
            shutdown,
            aborting: CancellationToken::new(),
        }))
    }

    /// All requests.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Where bundles come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What is counted, as Prometheus reads it.
    pub async fn metrics(&self) -> String {
        self.metrics.text(self.sources.usage().await.ok())
    }

    /// Waits until no more requests are taken.
    pub async fn stopping(&self) {
        self.shutdown.cancelled().await;
    }

    /// Notes a request and returns its id at once.
    pub fn prefetch(self: &Arc<Self>, asked: PrefetchSpec) -> Result<u64, Refused> {
        if self.shutdown.is_cancelled() {
            return Err(Refused::Stopping);
        }
        let running = match self.requests.admit(&asked)? {
            Admitted::New(running) => running,
            Admitted::Joined(request) => {
                info!(request = request.id, correlation_id = asked.correlation_id, "joined by another call");
                return Ok(request.id);
            }
        };
        let request = running.request();
        let id = request.id;
        let span = info_span!("prefetch", request = id, correlation_id = request.correlation_id);
        span.in_scope(|| {
            let image = request.wanted.to_api();
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
                () = daemon.aborting.cancelled() => warn!("dropped: the daemon stops"),
                () = daemon.run(running, asked.bundle) => {}
            }
        };
        self.tasks.spawn(run.instrument(span));
        Ok(id)
    }

    /// Throttles the daemon while CVMFS clients answer late, until it shuts down.
    pub fn watch_clients(self: &Arc<Self>) {
        let throttle = Throttle {
            repositories: self.delivery.repositories.values().cloned().collect(),
            mount_reads: self.mount_reads.clone(),
            running: self.requests.running(),
            shutdown: self.shutdown.clone(),
            connection_share: self.connection_share.clone(),
        };
        self.tasks.spawn(throttle.watch());
    }

    /// Stops: takes and starts nothing more, lets what is on its way come in until `bound`, drops the rest.
    pub async fn drain(&self, bound: Duration) {
        self.shutdown.cancel();
        info!(requests = self.tasks.len(), "draining");
        self.tasks.close();
        if tokio::time::timeout(bound, self.tasks.wait()).await.is_err() {
            self.aborting.cancel();
            self.tasks.wait().await;
        }
    }

    /// Removes what is left of objects that were on their way. To be called when nothing runs any more.
    pub fn clean(&self) {
        for repository in self.delivery.repositories.values() {
            repository.sink.clean();
        }
    }
}
