//! Accepts requests and runs them ([`run`]): finds the bundle, plans, has it delivered, counts. [`settings`] says how repositories
//! are served, [`renewal`] notices new bundles.

mod renewal;
mod run;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use bundles::store::{Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::cache::CacheError;
use crate::config::Config;
use crate::delivery;
use crate::metrics::{self, Metrics};
use crate::repository::ByName;
use crate::repository::settings::SettingsError;
use crate::request::spec::PrefetchSpec;
use crate::request::{Admitted, MAX_ENDED, MAX_RUNNING, Requests, TooMany};
use crate::source::Sources;

/// The daemon, apart from its socket.
///
/// It accepts requests as soon as it was [opened](Daemon::open). They start when [`Daemon::follow_settings`] has found out how
/// its repositories are served, which can take seconds: programs and mounts of the CVMFS client are queried for that.
#[derive(Debug)]
pub struct Daemon {
    requests: Arc<Requests>,
    metrics: Metrics,
    counters: metrics::Shared,
    sources: Arc<Sources>,
    /// `None` until the settings are known.
    delivery: watch::Sender<Option<Arc<delivery::Context>>>,
    /// The repositories that are served; none until the settings are known.
    repositories: watch::Sender<ByName>,
    /// Has the settings read again.
    reload: Notify,
    tasks: TaskTracker,
    /// Set when no more objects may be started.
    shutdown: CancellationToken,
    /// Set when unfinished objects are dropped.
    aborting: CancellationToken,
}

/// Why the daemon cannot serve its repositories.
#[derive(Debug, thiserror::Error)]
pub enum SettingsUnusable {
    /// The thread that read the settings ended without a result.
    #[error("cannot load the settings: {0}")]
    Died(#[from] JoinError),
    /// There is no repository.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another daemon fills the same cache.
    #[error(transparent)]
    Cache(CacheError),
}

/// Opens the store. A damaged one is moved away: its bundles are looked up again.
fn open_store(config: &Config) -> Result<Store, StoreError> {
    let open = || Store::open(&config.store, config.store_max_bytes);
    open().or_else(|error| {
        let aside = config.store.with_extension("damaged");
        let moved = || match std::fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(&config.store, &aside),
        };
        match error.is_damage().then(moved) {
            Some(Ok(())) => {
                warn!(%error, aside = %aside.display(), "the bundle store is damaged: it was moved away, a new one is used");
                open()
            }
            Some(Err(reason)) => {
                warn!(%reason, aside = %aside.display(), "cannot move the damaged bundle store away");
                Err(error)
            }
            None => Err(error),
        }
    })
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
        let store = Arc::new(open_store(config)?);
        let requests = Requests::new(MAX_RUNNING, MAX_ENDED);
        let sources = Sources::new(store, config.registries.clone(), config.lookup_timeout, config.absent_ttl);
        let counters = metrics::Shared {
            damaged_bundles: sources.damaged().clone(),
            bad_bundles: sources.bad().clone(),
            ..metrics::Shared::default()
        };
        Ok(Arc::new(Self {
            metrics: Metrics::new(requests.clone(), counters.clone()),
            requests,
            counters,
            sources: Arc::new(sources),
            delivery: watch::Sender::new(None),
            repositories: watch::Sender::default(),
            reload: Notify::new(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
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
        let repositories = self.repositories.borrow().clone();
        repositories.values().for_each(|repository| repository.destination.clean());
    }
}
