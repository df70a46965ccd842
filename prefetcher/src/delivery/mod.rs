//! Brings the objects of a plan into the caches, in the order in which they are needed.
//!
//! A plan is processed in batches ([`batch`]): the objects of one pack, or some that are in no pack. Of each batch, the missing
//! objects are looked up first ([`missing`]). Whether a pack is downloaded, or its missing objects one by one, depends on which
//! is expected to be faster ([`pack_cost`]). Every object is counted exactly once ([`outcome`]).

mod batch;
mod missing;
mod outcome;
mod pack_cost;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bundles::bundle::{Bundle, BundleObject, ObjectIndex, PackIndex};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cache::SinkError;
use crate::cache::capacity::Allowance;
use crate::fetch::failure::{Cause, Failure};
use crate::fetch::pack::{Pack, parts_of};
use crate::fetch::{Fetcher, Outcome};
use crate::mount::page_cache::Preloader;
use crate::repository::Repository;
use crate::request::Request;
use crate::request::tally::fail;
use crate::source::Sources;
use batch::{Portion, portions};
use pack_cost::{Line, Offer};

/// After so many objects that the cache did not take, a request fetches no more.
const MAX_WRITE_FAILURES: u64 = 8;
/// Handing the look-ups of so few objects to another thread takes longer than they do.
const FEW: usize = 16;
/// So many packs of a request come side by side; the next ones wait for memory anyway.
const PACKS_ABREAST: usize = 4;

/// What all deliveries of the daemon share.
#[derive(Debug)]
pub struct Context {
    /// The configured repositories, by name.
    pub repositories: HashMap<String, Arc<Repository>>,
    /// Downloads objects.
    pub fetcher: Fetcher,
    /// Knows where packs are.
    pub sources: Arc<Sources>,
    /// Reads files through their mount.
    pub page_cache: Preloader,
    /// How many objects of one request may be on their way.
    pub max_connections: usize,
    /// Set when no more objects may be started.
    pub shutdown: CancellationToken,
}

/// One request's objects on their way.
pub struct Delivery<'a> {
    context: &'a Context,
    request: &'a Request,
    bundle: Arc<Bundle>,
    packs: Vec<Option<Arc<Pack>>>,
    /// Objects that came, to be read through the mount.
    to_read: Mutex<ToRead>,
}

/// Objects by their places in the bundle.
#[derive(Default)]
struct ToRead {
    /// Those that the start waits for.
    critical: Vec<ObjectIndex>,
    others: Vec<ObjectIndex>,
}

type OnTheirWay<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>;

impl<'a> Delivery<'a> {
    /// A delivery of objects of `bundle` for `request`.
    pub async fn new(context: &'a Context, request: &'a Request, bundle: &Arc<Bundle>) -> Self {
        let packs = match context.repositories.get(bundle.repository()) {
            Some(repository) => context.sources.packs(&repository.mount, bundle).await,
            None => Vec::new(),
        };
        Self { context, request, bundle: bundle.clone(), packs, to_read: Mutex::default() }
    }

    /// Brings what is in `plan`.
    pub async fn bring(&self, plan: &[ObjectIndex]) {
        let (plan, other): (Vec<ObjectIndex>, Vec<ObjectIndex>) =
            plan.iter().partition(|i| self.repository_of(self.bundle.object(**i)).is_some());
        self.request.skipped(&other);
        let mut allowances = match self.prepare().await {
            Ok(allowances) => allowances,
            Err(error) => {
                self.request.tally(|a| fail(a, Cause::Write, plan.len() as u64));
                plan.iter().for_each(|index| self.request.missed(*index));
                self.request.error(&error);
                return;
            }
        };
        self.warm_catalogs();
        let mut packs = OnTheirWay::new();
        let mut objects = OnTheirWay::new();
        let mut begun = false;
        let is_there = |pack: PackIndex| self.packs.get(pack.as_usize()).is_some_and(Option::is_some);
        for portion in portions(&self.bundle, &plan, is_there) {
            let mut missing = self.meanwhile(self.missing(&portion), &mut packs, &mut objects).await;
            missing.retain(|index| self.is_allowed(*index, &mut allowances));
            if !begun && !missing.is_empty() {
                begun = true;
                self.spread(&missing).await;
            }
            if let Some(pack) = self.pack_for(&portion, &missing) {
                while packs.len() >= PACKS_ABREAST {
                    self.next(&mut packs, &mut objects).await;
                }
                packs.push(Box::pin(self.bring_pack(pack, missing)));
                continue;
            }
            for index in missing {
                while objects.len() >= self.context.max_connections {
                    self.next(&mut packs, &mut objects).await;
                }
                objects.push(Box::pin(self.bring_one(index)));
            }
        }
        while !packs.is_empty() || !objects.is_empty() {
            self.next(&mut packs, &mut objects).await;
        }
        self.read_what_came();
    }

    /// Has the kernel read what came. That takes as much of the node's cores as bringing it, so it is not done while more is
    /// on its way, but for what the start waits for.
    fn read_what_came(&self) {
        let ToRead { critical, others } = std::mem::take(&mut *self.to_read());
        self.read(critical);
        self.read(others);
    }

    /// Has the kernel read those of the critical objects that came, in the order of need.
    fn read_critical(&self) {
        let mut critical = std::mem::take(&mut self.to_read().critical);
        critical.sort_unstable();
        self.read(critical);
    }

    fn read(&self, came: Vec<ObjectIndex>) {
        for object in came.into_iter().map(|index| self.bundle.object(index)) {
            if let Some(repository) = self.repository_of(object) {
                self.context.page_cache.preload(&repository.mount, object);
            }
        }
    }

    fn to_read(&self) -> MutexGuard<'_, ToRead> {
        self.to_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warm_catalogs(&self) {
        for catalog in &self.bundle.catalogs {
            let name = self.bundle.repositories.get(usize::from(catalog.repository));
            if let Some(repository) = name.and_then(|name| self.context.repositories.get(name)) {
                self.context.page_cache.preload_catalog(&repository.mount, &catalog.mountpoint);
            }
        }
    }

    /// Before the first request: when many nodes ask at once, each begins at a time of its own.
    async fn spread(&self, missing: &[ObjectIndex]) {
        let repository = missing.first().and_then(|i| self.repository_of(self.bundle.object(*i)));
        let pause = repository.filter(|one| one.sink.through_mount().is_none()).map(|one| one.routes.spread());
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            debug!(?pause, "the proxy or server has much to do: a pause before the first request");
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits for `work` while what is on its way goes on: nothing of it moves unless somebody waits for it.
    async fn meanwhile<T>(
        &self,
        work: impl Future<Output = T>,
        packs: &mut OnTheirWay<'_>,
        objects: &mut OnTheirWay<'_>,
    ) -> T {
        tokio::pin!(work);
        loop {
            let is_idle = packs.is_empty() && objects.is_empty();
            tokio::select! {
                done = &mut work => return done,
                () = self.next(packs, objects), if !is_idle => {}
            }
        }
    }

    /// Goes on until something has come.
    async fn next(&self, packs: &mut OnTheirWay<'_>, objects: &mut OnTheirWay<'_>) {
        tokio::select! {
            Some(()) = packs.next(), if !packs.is_empty() => {}
            Some(()) = objects.next(), if !objects.is_empty() => {}
            else => {}
        }
    }

    fn repository_of(&self, object: &BundleObject) -> Option<&'a Repository> {
        Some(&**self.context.repositories.get(self.bundle.repository_of(object))?)
    }

    /// Makes the caches usable that the bundle's objects go to, and looks up what may be written to each.
    async fn prepare(&self) -> Result<HashMap<usize, Allowance>, String> {
        let known = self.bundle.repositories.iter().filter_map(|name| self.context.repositories.get(name));
        let known: HashMap<usize, Arc<Repository>> = known.map(|one| (one.sink_number, one.clone())).collect();
        let prepare = |(number, repository): (usize, Arc<Repository>)| {
            repository.sink.prepare()?;
            Ok::<_, SinkError>((number, repository.granted.allowance(repository.sink.room()?)))
        };
        blocking(move || known.into_iter().map(prepare).collect()).await
    }

    /// Whether the cache has room for an object that is missing there.
    fn is_allowed(&self, index: ObjectIndex, allowances: &mut HashMap<usize, Allowance>) -> bool {
        let object = self.bundle.object(index);
        let sink = self.repository_of(object).map(|repository| repository.sink_number);
        let allowance = sink.and_then(|sink| allowances.get_mut(&sink));
        let is_allowed = allowance.is_none_or(|allowance| allowance.take(object.raw_size));
        if !is_allowed {
            self.request.tally(|a| {
                a.skipped_objects += 1;
                a.skipped_cache_full_objects += 1;
            });
            self.request.missed(index);
        }
        is_allowed
    }

    /// What of a portion is not in its cache.
    async fn missing(&self, portion: &Portion) -> Vec<ObjectIndex> {
        let with_sink = |i: &ObjectIndex| Some((*i, self.repository_of(self.bundle.object(*i))?.sink.clone()));
        let wanted: Vec<_> = portion.objects.iter().filter_map(with_sink).collect();
        let is_few = wanted.len() <= FEW && wanted.iter().all(|(_, sink)| sink.through_mount().is_none());
        let missing = match is_few {
            true => missing::missing(&self.bundle.objects, &wanted),
            false => {
                let bundle = self.bundle.clone();
                let missing = blocking(move || Ok::<_, SinkError>(missing::missing(&bundle.objects, &wanted))).await;
                // Only a defect or the end of the daemon leads there; fetching looks again.
                let all = |_| missing::Missing { indices: portion.objects.clone(), already_there: Vec::new() };
                missing.unwrap_or_else(all)
            }
        };
        missing.already_there.iter().for_each(|index| self.already_there(*index));
        missing.indices
    }

    /// The portion's pack, if it is the sooner way to what is missing of it.
    fn pack_for(&self, portion: &Portion, missing: &[ObjectIndex]) -> Option<Arc<Pack>> {
        let pack = self.packs.get(portion.pack?.as_usize())?.as_ref()?;
        let repository = self.repository_of(self.bundle.object(*missing.first()?))?;
        if repository.sink.through_mount().is_some() {
            return None;
        }
        let routes = &repository.routes;
        let window = routes.window(routes.first());
        let line = Line {
            round_trip: window.round_trip(),
            bytes_per_second: self.context.fetcher.bytes_per_second(),
            abreast: window.limit(),
        };
        let objects: Vec<&BundleObject> = missing.iter().map(|i| self.bundle.object(*i)).collect();
        let parts = parts_of(pack, &objects);
        let offer = Offer {
            objects: objects.len(),
            bytes: objects.iter().map(|object| object.stored_size).sum(),
            parts: parts.len(),
            part_bytes: parts.iter().map(|part| part.raw_size).sum(),
        };
        let taken = line.prefers_pack(&offer);
        debug!(pack = ?portion.pack, ?offer, ?line, taken, "pack or objects");
        taken.then(|| pack.clone())
    }

    async fn bring_pack(&self, pack: Arc<Pack>, missing: Vec<ObjectIndex>) {
        let Some(repository) = missing.first().and_then(|i| self.repository_of(self.bundle.object(*i))) else {
            return;
        };
        if self.context.shutdown.is_cancelled() {
            return self.stopped(&missing);
        }
        let fetched = |index| self.fetched(index);
        let (fetcher, terms) = (&self.context.fetcher, self.request.terms());
        let from_pack = fetcher.fetch_pack(repository.target(), &self.bundle, &pack, &missing, terms, &fetched).await;
        self.request.tally(|a| {
            a.packs += 1;
            a.transferred_bytes += from_pack.transferred;
        });
        if from_pack.lacks_parts
            && let Some(packed) = missing.first().and_then(|index| self.bundle.object(*index).packed)
            && let Some(pack) = self.bundle.pack(packed.pack)
        {
            self.context.sources.moved(&self.bundle, &pack.digest);
        }
        let one_by_one = from_pack.left.into_iter().map(|index| self.bring_one(index));
        futures::stream::iter(one_by_one).buffer_unordered(self.context.max_connections).collect::<()>().await;
    }

    async fn bring_one(&self, index: ObjectIndex) {
        let object = self.bundle.object(index);
        let Some(repository) = self.repository_of(object) else { return };
        if self.context.shutdown.is_cancelled() {
            return self.stopped(&[index]);
        }
        if self.request.tally_so_far().failed_write >= MAX_WRITE_FAILURES {
            self.request.tally(|a| fail(a, Cause::Write, 1));
            self.request.missed(index);
            return;
        }
        if let Some(mount) = repository.sink.through_mount() {
            return match mount.read(object).await {
                Ok(()) => {
                    self.request.tally(|a| a.fetched_objects += 1);
                    self.arrived(index);
                }
                Err(error) => self.failed(index, &Failure::from(error)),
            };
        }
        match self.context.fetcher.fetch(repository.target(), object, self.request.terms()).await {
            Outcome::AlreadyThere => self.already_there(index),
            Outcome::Joined => {
                self.request.tally(|a| a.joined_objects += 1);
                self.arrived(index);
            }
            Outcome::Fetched { stored } => {
                self.request.tally(|a| a.transferred_bytes += stored);
                self.fetched(index);
            }
            Outcome::Failed(failure) => self.failed(index, &failure),
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
