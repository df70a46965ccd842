//! Looks up bundles: in the daemon's own store, in repositories through their mounts, and in the registries of images.
//!
//! A stored bundle is used at once. Meanwhile its version is compared with that in its repository, which costs no more than a `stat`: a
//! newer bundle replaces it, and it is removed if the repository has none any more. If the repository does not respond, or is
//! not mounted, the stored bundle is used. A bundle from a registry is compared in the same way, at most once an hour.
//!
//! A bundle whose objects the servers do not have, or for whose memory the kernel killed the daemon, is bad: see [`Sources::deliver`].
//!
//! All sources can block for ever. Mounts are read through their guard ([`node::mount`]), the store on threads of the runtime with a
//! timeout. A missing bundle is remembered as missing for a while; a timeout is not remembered.

mod deliveries;
mod lookup;
mod mount;
mod packs;
mod presence;
mod registry;
mod remembered;
mod store;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bundles::bundle::Bundle;
use bundles::image::{ChainId, Digest};
use bundles::pack::PublishedPack as Pack;
use bundles::store::{Origin, Store, StoreError, StoredFile, Usage};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use node::mount::Mount;
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::bundle_memory::{BundleMemory, MemoryError};
use crate::request::image_query::ImageQuery;
pub use deliveries::UnderDelivery;
use lookup::{Fetched, LookupError, STORE, check_image, log};
pub use lookup::{FoundBundle, Freshness, Lookup, LookupErrors, Stored, StoredOrigin};
use mount::{MountLookup, MountSource};
use packs::Packs;
use registry::Registries;
use remembered::Remembered;

/// Timeout of locating packs in a mount. Without a response, objects are fetched one by one.
const PACKS_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of threads that use the store at a time. One that writes holds the others up while the disk syncs, and the
/// runtime has few threads for blocking work.
const STORE_THREADS: usize = 8;

/// Why the store gave no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreUnavailable {
    /// The store did not respond in time.
    #[error("the bundle store did not respond within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The thread that used the store ended without a result.
    #[error("the lookup in the bundle store ended unexpectedly: {0}")]
    Died(#[from] tokio::task::JoinError),
    /// The store responded with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The mounts of the repositories.
type Mounts = Arc<[Arc<MountSource>]>;

/// All bundle sources.
#[derive(Debug)]
pub struct Sources {
    store: Arc<Store>,
    store_threads: Arc<Semaphore>,
    /// Empty until the settings of the repositories are known.
    mounts: RwLock<Mounts>,
    timeout: Duration,
    absent_ttl: Duration,
    absent: Remembered<Names, ()>,
    packs: Packs,
    registries: Registries,
    /// For bundles that are found here, and for those that clients send.
    found: BundleMemory,
    sent: BundleMemory,
    /// One file of the store is in memory at a time.
    reading: Semaphore,
    /// Numbers of deliveries of stored bundles that are under way.
    deliveries: Mutex<HashMap<ChainId, usize>>,
    /// When the daemon started.
    oom_kills: u64,
    damaged: Counter,
    bad: Counter,
}

/// Names by which an image is looked up.
type Names = (Option<ChainId>, Option<Digest>);

impl Sources {
    /// Looks in `store`, then in the mounts, then in the image's registry if it is one of `registries`, each for at most
    /// `timeout`. A missing bundle is remembered as missing for `absent_ttl`.
    pub fn new(store: Arc<Store>, registries: Vec<String>, timeout: Duration, absent_ttl: Duration) -> Self {
        let (found, sent) = BundleMemory::found_and_sent();
        Self {
            store,
            store_threads: Arc::new(Semaphore::new(STORE_THREADS)),
            mounts: RwLock::default(),
            timeout,
            absent_ttl,
            absent: Remembered::default(),
            packs: Packs::default(),
            registries: Registries::new(registries, timeout),
            found,
            sent,
            reading: Semaphore::new(1),
            deliveries: Mutex::default(),
            oom_kills: deliveries::oom_kills(),
            damaged: Counter::default(),
            bad: Counter::default(),
        }
    }

    /// The memory for bundles that clients send.
    pub fn memory_for_sent(&self) -> &BundleMemory {
        &self.sent
    }

    /// From now on, bundles are looked up in these mounts. What is known of a mount is kept.
    pub fn set_mounts(&self, mounts: impl Iterator<Item = Mount>) {
        let before = self.mounts();
        let source = |mount: Mount| match before.iter().find(|known| known.mount.path() == mount.path()) {
            Some(known) => known.clone(),
            None => Arc::new(MountSource::new(mount, self.timeout)),
        };
        let mounts = mounts.map(source).collect();
        *self.mounts.write() = mounts;
    }

    fn mounts(&self) -> Mounts {
        self.mounts.read().clone()
    }

    /// The mounts of repositories that are known to have bundles.
    pub fn mounts_with_bundles(&self) -> Vec<Mount> {
        self.mounts().iter().filter(|known| known.presence.has_bundles()).map(|known| known.mount.clone()).collect()
    }

    /// The repository at `mount` has the revision `now`. Whether it had another one since bundles were first looked up in it.
    pub fn is_new_revision(&self, mount: &Path, now: &str) -> bool {
        let mounts = self.mounts();
        let known = mounts.iter().find(|known| known.mount.path() == mount);
        known.is_some_and(|known| known.presence.is_new_revision(now))
    }

    /// Forgets which repositories have no bundles, so that they are looked into again.
    pub fn forget_absent(&self) {
        self.mounts().iter().for_each(|known| known.presence.forget_absent());
    }

    /// Looks up a bundle of `query` that is newer than the stored one, in repositories only: this happens for all images that are
    /// used on this node, and registries limit requests.
    pub async fn find_newer(&self, query: &ImageQuery) -> Option<FoundBundle> {
        if query.only_reference().is_some() {
            return None;
        }
        let names = query.clone();
        let stored = self.with_store(move |store| store::find(store, &names)).await;
        match stored.inspect_err(|error| debug!(%error, "cannot look up a stored bundle")).ok()? {
            Some(StoredFile { chain, facts, .. }) => {
                let known = StoredOrigin { chain, origin: facts.origin };
                match self.freshness_in_repositories(&known, query).await {
                    Freshness::Replaced(found) => Some(*found),
                    Freshness::Current | Freshness::Removed => None,
                }
            }
            None => self.find_in_repositories(query, &mut LookupErrors::default()).await,
        }
    }

    /// Looks up the bundle of `query` in the store. It can be used at once, while its [freshness](Self::freshness) is checked.
    pub async fn stored_bundle(&self, query: &ImageQuery) -> Result<Stored, LookupErrors> {
        let started = Instant::now();
        let result = self.in_store(query).await;
        log(STORE, started, result.as_ref().map(|stored| Some(&*stored.bundle)));
        result.map_err(|error| {
            let mut errors = LookupErrors::default();
            errors.add(error);
            errors
        })
    }

    /// Looks up a bundle in all sources but the store, which had `errors`.
    pub async fn find_outside_store(&self, query: &ImageQuery, mut errors: LookupErrors) -> Lookup {
        let names = (query.chain, query.manifest);
        if self.absent.get(&names).is_some() {
            return errors.into_lookup();
        }
        if let Some(found) = self.find_in_repositories(query, &mut errors).await {
            return Lookup::Found(Box::new(found));
        }
        match self.in_registry(query).await {
            // If the repository has a bundle later, that one replaces it.
            Ok(fetched) => return Lookup::Found(Box::new(self.keep(*fetched).await)),
            Err(error) => errors.add(error),
        }
        let lookup = errors.into_lookup();
        if matches!(lookup, Lookup::Absent) && query.only_reference().is_none() {
            self.absent.remember(names, (), self.absent_ttl);
        }
        lookup
    }

    async fn find_in_repositories(&self, query: &ImageQuery, errors: &mut LookupErrors) -> Option<FoundBundle> {
        // Repositories have no bundles by reference.
        let mounts = self.mounts();
        let mounts = mounts.iter().filter(|_| query.only_reference().is_none());
        let mounts = mounts.filter(|mount| !mount.presence.has_none(self.absent_ttl));
        let mut lookups: FuturesUnordered<_> = mounts.map(|mount| self.in_mount(mount, query, None)).collect();
        while let Some(result) = lookups.next().await {
            match result {
                Ok(MountLookup::Found(fetched)) => return Some(self.keep(*fetched).await),
                Ok(MountLookup::Unchanged) => {}
                Err(error) => errors.add(error),
            }
        }
        None
    }

    /// Locates the packs of `bundle` in the repository at `mount`: the parts of each, or `None` if it was not found.
    pub async fn packs(&self, mount: &Mount, bundle: &Bundle) -> Vec<Option<Arc<Pack>>> {
        let (found, unknown) = self.packs.known(&bundle.packs, self.absent_ttl);
        let mounts = self.mounts();
        let Some(mount) = mounts.iter().find(|m| m.mount.path() == mount.path()).filter(|_| !unknown.is_empty()) else {
            return found;
        };
        match mount.packs(&unknown, self.timeout.min(PACKS_TIMEOUT)).await {
            Ok(located) => {
                for (reference, pack) in unknown.iter().zip(located) {
                    self.packs.remember(reference.digest, pack.map(Arc::new));
                }
                self.keep_places(bundle);
            }
            Err(error) => warn!(%error, "cannot locate packs; fetching objects one by one"),
        }
        self.packs.known(&bundle.packs, self.absent_ttl).0
    }

    /// Forgets where a pack of `bundle` is, because it is not there any more. The next request locates it again.
    pub fn moved(&self, bundle: &Bundle, pack: &Digest) {
        self.packs.forget(pack);
        self.keep_places(bundle);
    }

    /// Writes the locations of the packs of `bundle` to the store, in the background.
    fn keep_places(&self, bundle: &Bundle) {
        let (known, _) = self.packs.known(&bundle.packs, self.absent_ttl);
        let known = bundle.packs.iter().zip(known);
        let places: Vec<_> = known.filter_map(|(pack, known)| Some((pack.digest, Pack::clone(&*known?)))).collect();
        let (store, chain) = (self.store.clone(), bundle.image.chain_id);
        tokio::task::spawn_blocking(move || {
            store
                .put_published_packs(&chain, &places)
                .unwrap_or_else(|error| warn!(%error, "cannot store the locations of packs"));
        });
    }

    /// The bundles in the store, each as `view` shows it. Damaged ones are removed.
    pub async fn stored<T: Send + 'static>(&self, view: fn(&Bundle) -> T) -> Result<Vec<T>, StoreUnavailable> {
        self.listed(move |bundle, _| view(bundle)).await
    }

    /// The bundles in the store, each as `view` shows it, with the time of its last use.
    async fn listed<T: Send + 'static>(
        &self,
        view: impl Fn(&Bundle, SystemTime) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, StoreUnavailable> {
        let mut all = Vec::new();
        for chain in self.with_store(Store::chains).await? {
            let _reading = self.reading.acquire().await;
            let Some(mut stored) = self.with_store(move |store| store.file(&chain)).await? else { continue };
            let file = Arc::new(std::mem::take(&mut stored.file));
            let (view, used) = (view.clone(), stored.facts.used);
            match self.found.view(&file, move |bundle| (bundle.image.chain_id, view(bundle, used))).await {
                Ok((found, value)) if found == chain => all.push(value),
                Ok((other, _)) => self.remove_damaged(stored, &file, &format!("it is the bundle of {other}")).await,
                Err(MemoryError::Format(error)) => self.remove_damaged(stored, &file, &error.to_string()).await,
                Err(error) => warn!(%chain, %error, "cannot list a bundle of the store"),
            }
        }
        Ok(all)
    }

    /// Counts damaged bundles that were found in the store and removed.
    pub fn damaged(&self) -> &Counter {
        &self.damaged
    }

    /// Counts bundles that were found bad.
    pub fn bad(&self) -> &Counter {
        &self.bad
    }

    /// Number and size of the bundles in the store.
    pub async fn usage(&self) -> Result<Usage, StoreUnavailable> {
        self.with_store(Store::usage).await
    }

    /// Removes the bundles of an image from the store, and forgets that it has none or a bad one. Returns how many were removed.
    pub async fn remove(&self, query: &ImageQuery) -> Result<usize, StoreUnavailable> {
        let names = query.clone();
        let chain = move |bundle: &Bundle, _| names.is(&bundle.image).then_some(bundle.image.chain_id);
        let chains: Vec<ChainId> = self.listed(chain).await?.into_iter().flatten().collect();
        let is_named = |(chain, manifest): &Names| {
            (chain.is_some() && *chain == query.chain) || (manifest.is_some() && *manifest == query.manifest)
        };
        self.absent.forget(is_named);
        self.registries.forget(query);
        self.with_store(move |store| store.remove(&chains)).await
    }

    async fn in_store(&self, query: &ImageQuery) -> Result<Stored, LookupError> {
        let no_answer = |error: StoreUnavailable| LookupError::NoAnswer(error.to_string());
        let mut query = query.clone();
        if query.only_reference().is_some() {
            let names = query.clone();
            let named = move |bundle: &Bundle, used| names.is(&bundle.image).then_some((used, bundle.image.chain_id));
            let all = self.listed(named).await.map_err(no_answer)?;
            let last_used = all.into_iter().flatten().max_by_key(|(used, _)| *used);
            query.chain = Some(last_used.ok_or(LookupError::Absent)?.1);
        }
        let _reading = self.reading.acquire().await;
        let names = query.clone();
        let stored = self.with_store(move |store| store::find(store, &names)).await;
        let stored = match stored {
            // A mount may have an intact bundle, which then replaces it.
            Err(StoreUnavailable::Store(error)) => return Err(LookupError::Unusable(error.to_string())),
            found => found.map_err(no_answer)?,
        };
        let mut stored = stored.ok_or(LookupError::Absent)?;
        let file = Arc::new(std::mem::take(&mut stored.file));
        let chain = stored.chain;
        let bundle = match self.found.decode(&file).await {
            Ok(bundle) if bundle.image.chain_id == chain => bundle,
            Ok(other) => {
                let reason = format!("it is the bundle of {}", other.image.chain_id);
                self.remove_damaged(stored, &file, &reason).await;
                return Err(LookupError::Unusable(format!("bundle store: {chain}: {reason}")));
            }
            Err(MemoryError::Format(error)) => {
                self.remove_damaged(stored, &file, &error.to_string()).await;
                return Err(LookupError::Unusable(format!("bundle store: {chain}: {error}")));
            }
            Err(error) => return Err(LookupError::not_decoded(STORE, &error)),
        };
        check_image(STORE, &bundle, &query)?;
        self.packs.remember_places(stored.published_packs);
        Ok(Stored { bundle, known: StoredOrigin { chain, origin: stored.facts.origin } })
    }

    /// Removes a bundle that cannot be used from the store.
    async fn remove_damaged(&self, stored: StoredFile, file: &Arc<Vec<u8>>, reason: &str) {
        warn!(chain = %stored.chain, reason, "removing a damaged bundle from the store");
        let damaged = StoredFile { file: file.to_vec(), ..stored };
        match self.with_store(move |store| store.remove_damaged_file(&damaged)).await {
            Ok(removed) => _ = self.damaged.inc_by(u64::from(removed)),
            Err(error) => warn!(%error, "cannot remove a damaged bundle from the store"),
        }
    }

    /// Uses the store on a thread of the runtime, for at most the timeout.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        let store = self.store.clone();
        let span = tracing::Span::current();
        let threads = self.store_threads.clone();
        let task = async move {
            let thread = threads.acquire_owned().await;
            let work = move || {
                let _thread = thread;
                span.in_scope(|| work(&store))
            };
            tokio::task::spawn_blocking(work).await
        };
        let result = tokio::time::timeout(self.timeout, task).await;
        let result = result.map_err(|_| StoreUnavailable::Timeout(self.timeout))??;
        Ok(result?)
    }

    /// Compares a stored bundle with the one in its repository or registry. Another bundle replaces it; if there is none any more, it
    /// is removed. A bundle that was imported into the store, or that comes from a registry, is replaced by that of any repository.
    pub async fn freshness(&self, known: &StoredOrigin, query: &ImageQuery) -> Freshness {
        match self.freshness_in_repositories(known, query).await {
            Freshness::Current => {}
            changed => return changed,
        }
        let Some(Origin::Registry { image, artifact }) = &known.origin else { return Freshness::Current };
        match self.registries.artifact(image).await {
            Ok(Some(now)) if now == *artifact => Freshness::Current,
            Ok(Some(_)) => {
                let query = ImageQuery { reference: image.clone(), manifest: None, ..query.clone() };
                match self.in_registry(&query).await {
                    Ok(fetched) => Freshness::Replaced(Box::new(self.keep(*fetched).await)),
                    Err(_) => Freshness::Current,
                }
            }
            Ok(None) => {
                self.forget(known.chain).await;
                Freshness::Removed
            }
            Err(LookupError::Absent) => Freshness::Current,
            Err(error) => {
                log(image, Instant::now(), Err(&error));
                Freshness::Current
            }
        }
    }

    async fn freshness_in_repositories(&self, known: &StoredOrigin, query: &ImageQuery) -> Freshness {
        let StoredOrigin { chain, origin } = known;
        // By chain ID, which every bundle has: a manifest may no longer lead to it.
        let query = &ImageQuery { chain: Some(*chain), ..query.clone() };
        let (home, version) = match origin {
            Some(Origin::Repository { mount, version }) => (Some(mount), version.as_str()),
            Some(Origin::Registry { .. }) | None => (None, ""),
        };
        let is_asked = |mount: &&Arc<MountSource>| match home {
            Some(home) => home == mount.mount.path(),
            None => !mount.presence.has_none(self.absent_ttl),
        };
        let mounts = self.mounts();
        let mounts = mounts.iter().filter(is_asked);
        let mut lookups: FuturesUnordered<_> = mounts.map(|mount| self.in_mount(mount, query, Some(version))).collect();
        while let Some(result) = lookups.next().await {
            match result {
                Ok(MountLookup::Found(fetched)) => {
                    return Freshness::Replaced(Box::new(self.keep(*fetched).await));
                }
                Err(LookupError::Removed) if home.is_some() => {
                    self.forget(*chain).await;
                    return Freshness::Removed;
                }
                // `in_mount` has logged the error.
                Ok(MountLookup::Unchanged) | Err(_) => {}
            }
        }
        Freshness::Current
    }

    /// Stores a bundle. An error is logged and does not fail the request.
    async fn keep(&self, fetched: Fetched) -> FoundBundle {
        let Fetched { bundle, file, source, origin, _reading } = fetched;
        let image = bundle.image.clone();
        let kept = self.with_store(move |store| store.put_file(&image, &file, Some(origin))).await;
        match &kept {
            Ok(_) => debug!("bundle stored"),
            Err(error) => warn!(%error, "cannot store the bundle"),
        }
        FoundBundle { bundle, source, is_kept: kept.is_ok() }
    }

    /// Removes a bundle that its repository or registry no longer has.
    async fn forget(&self, chain: ChainId) {
        match self.with_store(move |store| store.remove(&[chain])).await {
            Ok(_) => info!(%chain, "bundle removed from the store: where it came from has none any more"),
            Err(error) => warn!(%error, "cannot remove a bundle from the store"),
        }
    }

    async fn in_mount(
        &self,
        mount: &MountSource,
        query: &ImageQuery,
        known: Option<&str>,
    ) -> Result<MountLookup, LookupError> {
        let started = Instant::now();
        let result = mount.find(query, known, &self.found).await;
        let bundle = result.as_ref().map(|found| match found {
            MountLookup::Found(fetched) => Some(&*fetched.bundle),
            MountLookup::Unchanged => None,
        });
        log(&mount.mount.path().to_string_lossy(), started, bundle);
        result
    }

    async fn in_registry(&self, query: &ImageQuery) -> Result<Box<Fetched>, LookupError> {
        let started = Instant::now();
        let result = self.registries.find(query, &self.found).await;
        log("registry", started, result.as_ref().map(|fetched| Some(&*fetched.bundle)));
        result
    }
}
