//! Gets the objects of a plan into the caches, in the order of need.
//!
//! 1. The plan is divided into batches ([`batch`]): the objects of one pack, or some that are in no pack.
//! 2. Each batch is looked up in the caches ([`missing`]). Objects for which a cache has no space are skipped.
//! 3. The missing objects are downloaded as a pack or one by one, whichever is expected to be faster ([`pack_cost`]), while the next
//!    batch is looked up ([`in_flight`]).
//! 4. The outcome of every object is recorded exactly once ([`outcome`]).
//! 5. When servers refuse too many objects, the rest is abandoned ([`refusals`]).
//!
//! Where a cache cannot be written, objects are read through the mount instead of downloaded.

mod batch;
mod catalogs;
mod in_flight;
mod missing;
mod outcome;
mod pack_cost;
mod pause;
mod refusals;

use std::collections::HashMap;
use std::sync::Arc;

use bundles::bundle::{Bundle, BundleObject, ObjectIndex, PackIndex};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::cache::capacity::{Allowance, Refusal};
use crate::cache::{CacheError, Destination, DestinationId};
use crate::fetch::failure::{Cause, Failure};
use crate::fetch::pack::{Pack, parts_of};
use crate::fetch::{Fetched, Fetcher};
use crate::mount::page_cache::Preloader;
use crate::repository::{ByName, Repository};
use crate::request::Request;
use crate::request::tally::{Count, FailureCause, Outcome, SkipCause};
use crate::source::Sources;
use batch::{Batch, batches, pack_of};
use in_flight::InFlight;
use missing::{Lookup, look_up};
use pack_cost::{Link, Offer};
use refusals::{Abandoned, Refusals};

/// After this many objects that could not be written to a cache, a request downloads no more.
const MAX_WRITE_FAILURES: u64 = 8;
/// Maximum number of packs of a request that are downloaded at a time. More would only wait for memory.
const MAX_PACKS: usize = 4;

/// What deliveries need. A delivery keeps what it began with.
#[derive(Debug)]
pub struct Context {
    /// The configured repositories, by name.
    pub repositories: ByName,
    /// Downloads objects.
    pub fetcher: Arc<Fetcher>,
    /// Locates packs.
    pub sources: Arc<Sources>,
    /// Preloads files into the page cache.
    pub page_cache: Arc<Preloader>,
    /// Maximum number of objects of one request that are downloaded at a time.
    pub max_connections: usize,
    /// Set when no more downloads may start.
    pub shutdown: CancellationToken,
}

/// The delivery of the objects of one request.
pub struct Delivery<'a> {
    context: &'a Context,
    request: &'a Request,
    bundle: Arc<Bundle>,
    /// By the index of the pack; `None` for packs that the repository does not have.
    packs: Vec<Option<Arc<Pack>>>,
    preloads: Mutex<Preloads>,
    allowances: Mutex<Allowances>,
    refusals: Refusals,
}

/// How a delivery has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Every object was attempted, or abandoned for a reason that is not the bundle's.
    Attempted,
    /// The rest was abandoned, because the servers do not have many of the bundle's objects.
    ObjectsMissing,
}

/// Downloaded objects that are not in the page cache yet.
#[derive(Default)]
struct Preloads {
    critical: Vec<ObjectIndex>,
    others: Vec<ObjectIndex>,
}

/// Why the caches of a request are not usable.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("cannot prepare the caches: {0}")]
    Task(#[from] JoinError),
}

/// Bytes that the request may still write to each destination.
type Allowances = HashMap<DestinationId, Allowance>;

impl<'a> Delivery<'a> {
    /// A delivery of `objects` objects of `bundle` for `request`. Locates the packs of the bundle.
    pub async fn new(context: &'a Context, request: &'a Request, bundle: &Arc<Bundle>, objects: usize) -> Self {
        let packs = match context.repositories.get(bundle.repository()) {
            Some(repository) => context.sources.packs(&repository.mount, bundle).await,
            None => Vec::new(),
        };
        let (preloads, allowances) = (Mutex::default(), Mutex::default());
        let refusals = Refusals::new(objects);
        Self { context, request, bundle: bundle.clone(), packs, preloads, allowances, refusals }
    }

    /// Delivers the objects of `plan`. Returns when each of them has an outcome.
    pub async fn run(&self, plan: &[ObjectIndex]) -> Delivered {
        let is_served = |index: &&ObjectIndex| self.repository_of(self.bundle.object(**index)).is_some();
        let (plan, not_served): (Vec<ObjectIndex>, Vec<ObjectIndex>) = plan.iter().partition(is_served);
        self.request.record_all(&not_served, Outcome::Skipped(SkipCause::Repository));
        match self.prepare().await {
            Ok(allowances) => *self.allowances.lock() = allowances,
            Err(error) => {
                self.request.record_all(&plan, Outcome::Failed(FailureCause::Write));
                self.request.error(&error.to_string());
                return Delivered::Attempted;
            }
        }
        self.preload_catalogs();
        let mut in_flight = InFlight::new(MAX_PACKS, self.context.max_connections);
        let mut has_started = false;
        for batch in batches(&self.bundle, &plan, |pack| self.pack(pack).is_some()) {
            if self.refusals.abandoned().is_some() {
                self.abandon(&batch.objects);
                continue;
            }
            let mut missing = in_flight.progress_until(self.missing(&batch)).await;
            missing.retain(|index| self.is_allowed(*index));
            if !has_started && !missing.is_empty() {
                has_started = true;
                self.start_pause(&missing).await;
            }
            match self.pack_for(&batch, &missing) {
                Some(pack) => in_flight.add_pack(self.fetch_pack(pack, missing)).await,
                None => {
                    for index in missing {
                        in_flight.add_object(self.fetch_object(index)).await;
                    }
                }
            }
        }
        in_flight.finish().await;
        let over_limit = self.request.tally().count(Outcome::Skipped(SkipCause::HourlyLimit)).objects;
        if over_limit > 0 {
            warn!(
                objects = over_limit,
                "skipped: the requests of the last hour wrote what cache_share_per_hour allows"
            );
        }
        self.preload_all();
        match self.refusals.abandoned() {
            Some(Abandoned::ObjectsMissing) => Delivered::ObjectsMissing,
            Some(Abandoned::Refused) | None => Delivered::Attempted,
        }
    }

    /// Preloads all downloaded objects into the page cache. Preloading uses as much of the node's cores as downloading, so it waits
    /// until all downloads have ended, apart from critical objects.
    fn preload_all(&self) {
        let Preloads { critical, others } = std::mem::take(&mut *self.preloads.lock());
        self.preload(&critical);
        self.preload(&others);
    }

    /// Preloads the critical objects, in the order of need.
    fn preload_critical(&self) {
        let mut critical = std::mem::take(&mut self.preloads.lock().critical);
        critical.sort_unstable();
        self.preload(&critical);
    }

    fn preload(&self, indices: &[ObjectIndex]) {
        for object in indices.iter().map(|index| self.bundle.object(*index)) {
            if let Some(repository) = self.repository_of(object) {
                self.context.page_cache.preload(&repository.mount, object);
            }
        }
    }

    /// Pauses before the first download if the proxy is overloaded, for a random time, so that many nodes do not start together.
    async fn start_pause(&self, missing: &[ObjectIndex]) {
        let Some(Repository { destination: Destination::Cache(_), routes, .. }) = self.repository_of_first(missing)
        else {
            return;
        };
        let pause = routes.start_pause();
        if !pause.is_zero() {
            debug!(?pause, "the proxy or server is overloaded: a pause before the first request");
            tokio::time::sleep(pause).await;
        }
    }

    fn repository_of(&self, object: &BundleObject) -> Option<&'a Repository> {
        Some(&**self.context.repositories.get(self.bundle.repository_of(object))?)
    }

    /// The repository of a batch: the objects of a pack are all of the same one.
    fn repository_of_first(&self, objects: &[ObjectIndex]) -> Option<&'a Repository> {
        self.repository_of(self.bundle.object(*objects.first()?))
    }

    fn pack(&self, index: PackIndex) -> Option<&Arc<Pack>> {
        self.packs.get(index.as_usize())?.as_ref()
    }

    /// Makes the caches of the bundle's objects usable, and determines how much may be written to each.
    async fn prepare(&self) -> Result<Allowances, PrepareError> {
        let served = self.bundle.repositories.iter().filter_map(|name| self.context.repositories.get(name));
        let by_destination: HashMap<DestinationId, Arc<Repository>> =
            served.map(|repository| (repository.destination_id, repository.clone())).collect();
        for repository in by_destination.values() {
            self.wait_while_paused(repository).await;
        }
        let prepare = |(id, repository): (DestinationId, Arc<Repository>)| {
            repository.destination.prepare()?;
            Ok((id, repository.granted.allowance(repository.destination.free_space()?)))
        };
        let span = tracing::Span::current();
        let prepare_all = move || {
            span.in_scope(|| by_destination.into_iter().map(prepare).collect::<Result<Allowances, CacheError>>())
        };
        Ok(tokio::task::spawn_blocking(prepare_all).await??)
    }

    /// Whether a missing object may be written to its cache. If not, it is skipped.
    fn is_allowed(&self, index: ObjectIndex) -> bool {
        let object = self.bundle.object(index);
        let cause = match self.with_allowance(object, |allowance| allowance.take(object.raw_size)) {
            Some(Err(Refusal::CacheFull)) => SkipCause::CacheFull,
            Some(Err(Refusal::HourlyLimit)) => SkipCause::HourlyLimit,
            Some(Ok(())) | None => return true,
        };
        self.record(index, Outcome::Skipped(cause), Count::ONE);
        false
    }

    /// Calls `action` with what the request may write to the cache of an object.
    fn with_allowance<T>(&self, object: &BundleObject, action: impl FnOnce(&mut Allowance) -> T) -> Option<T> {
        let id = self.repository_of(object)?.destination_id;
        self.allowances.lock().get_mut(&id).map(action)
    }

    /// Looks up a batch; returns the objects that are missing.
    async fn missing(&self, batch: &Batch) -> Vec<ObjectIndex> {
        let with_destination =
            |index: &ObjectIndex| Some((*index, self.repository_of(self.bundle.object(*index))?.destination.clone()));
        let objects: Vec<_> = batch.objects.iter().filter_map(with_destination).collect();
        let bundle = self.bundle.clone();
        let lookup = tokio::task::spawn_blocking(move || look_up(&bundle, &objects)).await;
        // It fails only by a defect or at the end of the daemon. Downloads look again.
        let Lookup { missing, cached } =
            lookup.unwrap_or_else(|_| Lookup { missing: batch.objects.clone(), cached: Vec::new() });
        cached.into_iter().for_each(|index| self.cached(index));
        missing
    }

    /// Returns the pack of a batch, if it is expected to be faster than the missing objects one by one.
    fn pack_for(&self, batch: &Batch, missing: &[ObjectIndex]) -> Option<Arc<Pack>> {
        let pack = self.pack(batch.pack?)?;
        let Repository { destination: Destination::Cache(_), routes, .. } = self.repository_of_first(missing)? else {
            return None;
        };
        let concurrency = routes.concurrency(routes.first());
        let link = Link {
            round_trip: concurrency.round_trip(),
            bytes_per_second: self.context.fetcher.bytes_per_second(),
            connections: concurrency.permits(),
        };
        let parts = parts_of(pack, &self.bundle, missing);
        let offer = Offer {
            objects: missing.len(),
            object_bytes: missing.iter().map(|index| self.bundle.object(*index).stored_size).sum(),
            parts: parts.len(),
            part_bytes: parts.iter().map(|part| part.raw_size).sum(),
        };
        let is_preferred = link.prefers_pack(&offer);
        debug!(pack = ?batch.pack, ?offer, ?link, is_preferred, "compared pack and single objects");
        is_preferred.then(|| pack.clone())
    }

    async fn fetch_pack(&self, pack: Arc<Pack>, missing: Vec<ObjectIndex>) {
        let Some(repository) = self.repository_of_first(&missing) else { return };
        let Destination::Cache(cache) = &repository.destination else { return };
        if self.context.shutdown.is_cancelled() {
            return self.shut_down(&missing);
        }
        if self.refusals.abandoned().is_some() {
            return self.abandon(&missing);
        }
        let (target, policy) = (repository.target(cache), self.request.fetch_policy());
        let on_fetched = |index| self.downloaded(index);
        let result = self.context.fetcher.fetch_pack(target, &self.bundle, &pack, &missing, policy, &on_fetched).await;
        self.request.record_pack(result.transferred);
        if result.lacks_parts
            && let Some(pack) = missing.first().and_then(|index| self.bundle.pack(pack_of(&self.bundle, *index)?))
        {
            self.context.sources.moved(&self.bundle, &pack.digest);
        }
        let one_by_one = result.left.into_iter().map(|index| self.fetch_object(index));
        futures::stream::iter(one_by_one).buffer_unordered(self.context.max_connections).collect::<()>().await;
    }

    async fn fetch_object(&self, index: ObjectIndex) {
        let object = self.bundle.object(index);
        let Some(repository) = self.repository_of(object) else { return };
        if self.context.shutdown.is_cancelled() {
            return self.shut_down(&[index]);
        }
        if self.refusals.abandoned().is_some() {
            return self.abandon(&[index]);
        }
        let write_failure = Outcome::Failed(FailureCause::Write);
        if self.request.tally().count(write_failure).objects >= MAX_WRITE_FAILURES {
            return self.record(index, write_failure, Count::ONE);
        }
        let mut result = self.fetch_from(repository, index).await;
        if result.as_ref().is_err_and(|failure| failure.cause == Cause::Write)
            && self.wait_while_paused(repository).await
        {
            result = self.fetch_from(repository, index).await;
        }
        if let Err(failure) = result {
            self.failed(index, &failure);
        }
    }

    /// Fetches an object and records its outcome, unless it fails.
    async fn fetch_from(&self, repository: &Repository, index: ObjectIndex) -> Result<(), Failure> {
        let object = self.bundle.object(index);
        match &repository.destination {
            Destination::ThroughMount(reader) => {
                reader.read(object).await.map(|()| self.read_through_mount(index)).map_err(Failure::from)
            }
            Destination::Cache(cache) => {
                let (target, policy) = (repository.target(cache), self.request.fetch_policy());
                self.context.fetcher.fetch(target, object, policy).await.map(|fetched| match fetched {
                    Fetched::Cached => self.cached(index),
                    Fetched::Joined => self.joined(index),
                    Fetched::Downloaded { transferred } => {
                        self.request.record_transfer(transferred);
                        self.downloaded(index);
                    }
                })
            }
        }
    }
}
