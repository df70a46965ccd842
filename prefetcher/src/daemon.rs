//! Runs requests: finds the bundle, plans, has it delivered, accounts.

mod cost;
mod courtesy;
mod delivery;
mod giving_way;
mod portion;
mod renewal;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bundles::bundle::Bundle;
use bundles::store::{Store, StoreError};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use crate::api::RequestState;
use crate::asked::Asked;
use crate::config::Config;
use crate::fetch::Fetcher;
use crate::metrics::Metrics;
use crate::page_cache::Readers;
use crate::repository::Repository;
use crate::requests::{Admitted, MAX_ENDED, MAX_RUNNING, Request, Requests, Running, TooMany};
use crate::settings::{Settings, SettingsError};
use crate::sink::{self, SinkError};
use crate::source::{AtHand, Compared, Found, Search, Sources, Troubles};
use delivery::Delivery;

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

    async fn run(&self, running: Running, bundle: Option<Box<Bundle>>) {
        let request = running.request().clone();
        // Dropping what is on its way is all it takes to give up: who joined it does it again.
        let state = tokio::select! {
            biased;
            state = self.outcome(&request, bundle) => state,
            state = request.given_up() => {
                request.fail_rest(|a| &mut a.failed_given_up);
                state
            }
        };
        running.end(state);
        let status = request.status();
        self.metrics.ended(&status);
        let a = status.account.unwrap_or_default();
        info!(
            state = state.as_str_name(),
            error = status.error,
            wanted = a.wanted_objects,
            already_there = a.already_there_objects,
            fetched = a.fetched_objects,
            joined = a.joined_objects,
            failed = a.failed_objects,
            skipped = a.skipped_objects,
            skipped_budget = a.skipped_budget_objects,
            failed_transfer = a.failed_transfer,
            failed_verification = a.failed_verification,
            failed_write = a.failed_write,
            failed_stopped = a.failed_stopped,
            failed_given_up = a.failed_given_up,
            time_to_first_byte_us = a.time_to_first_byte_us,
            time_to_critical_us = a.time_to_critical_us,
            stored_bytes = a.fetched_stored_bytes,
            transferred_bytes = a.transferred_bytes,
            packs = a.packs,
            raw_bytes = a.fetched_raw_bytes,
            elapsed_us = a.elapsed_us,
            "request ended"
        );
    }

    async fn outcome(&self, request: &Request, bundle: Option<Box<Bundle>>) -> RequestState {
        let search = match bundle {
            Some(bundle) => Search::Found(Box::new(Found { bundle: *bundle, place: "request".into() })),
            None => match self.sources.at_hand(&request.wanted).await {
                Ok(at_hand) => match self.deliver_at_hand(request, at_hand).await {
                    Ok(state) => return state,
                    Err(search) => search,
                },
                Err(troubles) => self.search(request, troubles).await,
            },
        };
        match search {
            Search::Found(found) => self.deliver(request, *found).await,
            Search::Absent => RequestState::NoBundle,
            Search::Unsure(why) => {
                request.error(&why);
                match self.stopping.is_cancelled() {
                    true => RequestState::Failed,
                    false => RequestState::NoBundle,
                }
            }
            Search::Unusable(why) => {
                request.error(&why);
                RequestState::Failed
            }
        }
    }

    async fn search(&self, request: &Request, troubles: Troubles) -> Search {
        tokio::select! {
            search = self.sources.elsewhere(&request.wanted, troubles) => search,
            () = self.stopping.cancelled() => Search::Unsure("the daemon was told to stop".into()),
        }
    }

    /// Delivers the bundle that the store has, at once, while its repository is asked whether it is still the one. If it is
    /// not, what is to be done instead.
    async fn deliver_at_hand(&self, request: &Request, at_hand: AtHand) -> Result<RequestState, Search> {
        let AtHand { bundle, known } = at_hand;
        let delivered = self.deliver(request, Found::stored(bundle));
        let compared = async {
            tokio::select! {
                compared = self.sources.compared(&known, &request.wanted) => compared,
                () = self.stopping.cancelled() => Compared::Same,
            }
        };
        tokio::pin!(delivered, compared);
        let (state, compared) = tokio::select! {
            compared = &mut compared => (None, compared),
            state = &mut delivered => (Some(state), compared.await),
        };
        match (compared, state) {
            (Compared::Same, Some(state)) => Ok(state),
            (Compared::Same, None) => Ok(delivered.await),
            (Compared::Other(found), _) => Err(Search::Found(found)),
            (Compared::Gone, _) => Err(self.search(request, Troubles::default()).await),
        }
    }

    async fn deliver(&self, request: &Request, found: Found) -> RequestState {
        let plan = found.bundle.plan(Some(request.wanted.profile.as_str()));
        request.found(&found.place, &found.bundle, &plan);
        let name = found.bundle.repository();
        if !self.repositories.contains_key(name) {
            let known: Vec<_> = self.repositories.keys().map(String::as_str).collect();
            request.error(&format!(
                "bundle {} is for repository {name}, which is not configured (only {}); add it as [[repository]]",
                found.place,
                known.join(", ")
            ));
            return RequestState::Failed;
        }
        let bundle = Arc::new(found.bundle);
        Delivery::new(self, request, &bundle).await.bring(&plan).await;
        match request.account_so_far().failed_objects {
            0 => RequestState::Done,
            _ => RequestState::Failed,
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
