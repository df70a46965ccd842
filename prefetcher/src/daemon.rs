//! Takes requests and runs them ([`run`]): finds the bundle, plans, has it delivered, accounts.

mod cost;
mod courtesy;
mod delivery;
mod giving_way;
mod portion;
mod renewal;
mod run;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bundles::store::{Store, StoreError};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::asked::Asked;
use crate::config::Config;
use crate::fetch::Fetcher;
use crate::metrics::Metrics;
use crate::page_cache::Readers;
use crate::repository::Repository;
use crate::requests::{Admitted, MAX_ENDED, MAX_RUNNING, Requests, TooMany};
use crate::settings::{Settings, SettingsError};
use crate::sink::{self, SinkError};
use crate::source::Sources;

/// The daemon, apart from its socket.
#[derive(Debug)]
pub struct Daemon {
    requests: Arc<Requests>,
    metrics: Metrics,
    sources: Sources,
    fetcher: Fetcher,
    repositories: HashMap<String, Arc<Repository>>,
    connections: usize,
    readers: Readers,
    /// What may be read through mounts at a time.
    mount_reads: Arc<Semaphore>,
    /// Told of each new request.
    busy: Notify,
    tasks: TaskTracker,
    /// Told to start no more objects.
    stopping: CancellationToken,
    /// Told to drop what is on its way.
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
        let store = Store::open(&config.store, config.store_bytes)?;
        let settings = Settings::all(config)?;
        for (repository, note) in settings.iter().flat_map(|one| one.notes.iter().map(move |note| (&one.name, note))) {
            warn!(repository, note, "not learned from the CVMFS client");
        }
        let mounts = settings.iter().map(|one| one.mount.clone()).collect();
        let mount_readers = Arc::new(Semaphore::new(sink::mount::READERS));
        let repositories = Repository::all(settings, config, &mount_readers)?;
        for repository in repositories.values() {
            match repository.sink.prepare() {
                Ok(()) => {}
                Err(error @ SinkError::InUse(_)) => return Err(StartError::Sink(error)),
                Err(error) => warn!(repository = repository.name, %error, "cache not usable yet"),
            }
        }
        let deadline = Duration::from_secs(config.lookup_timeout_s);
        let remember_absent = Duration::from_secs(config.remember_absent_s);
        let requests = Requests::new(MAX_RUNNING, MAX_ENDED);
        let sources = Sources::new(Arc::new(store), mounts, config.registries.clone(), deadline, remember_absent);
        let readers = Readers::new(config.mount_readers, &mount_readers);
        Ok(Arc::new(Self {
            metrics: Metrics::new(requests.clone(), sources.damaged().clone(), readers.left_out().clone()),
            requests,
            sources,
            fetcher: Fetcher::new(config.bytes_per_second),
            repositories,
            connections: config.connections,
            readers,
            mount_reads: mount_readers,
            busy: Notify::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
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
        self.stopping.cancelled().await;
    }

    /// Notes a request and returns its id at once.
    pub fn prefetch(self: &Arc<Self>, asked: Asked) -> Result<u64, Refused> {
        if self.stopping.is_cancelled() {
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
        self.busy.notify_one();
        Ok(id)
    }

    /// Gives way to what containers ask the CVMFS clients for, until the daemon stops.
    pub fn watch_clients(self: &Arc<Self>) {
        self.tasks.spawn(giving_way::watch(self.clone()));
    }

    /// Looks for new bundles of images that were asked for, as often as configured, until the daemon stops.
    pub fn watch_revisions(self: &Arc<Self>, config: &Config) {
        if config.revision_check_s > 0 {
            let interval = Duration::from_secs(config.revision_check_s);
            self.tasks.spawn(renewal::watch(self.clone(), interval));
        }
    }

    /// Stops: takes and starts nothing more, lets what is on its way come in until `bound`, drops the rest.
    pub async fn drain(&self, bound: Duration) {
        self.stopping.cancel();
        info!(requests = self.tasks.len(), "draining");
        self.tasks.close();
        if tokio::time::timeout(bound, self.tasks.wait()).await.is_err() {
            self.aborting.cancel();
            self.tasks.wait().await;
        }
    }

    /// Removes what is left of objects that were on their way. To be called when nothing runs any more.
    pub fn clean(&self) {
        for repository in self.repositories.values() {
            repository.sink.clean();
        }
    }
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}
