//! Looks up bundles: in the daemon's own store, in repositories through their mounts, and in the registries of images.
//!
//! A stored bundle is used at once. Meanwhile its version is compared with that in its repository, which costs no more than a `stat`: a
//! newer bundle replaces it, and it is removed if the repository has none any more. If the repository does not respond, or is
//! not mounted, the stored bundle is used.
//!
//! All sources can block for ever. Mounts are read through their guard ([`node::mount`]), the store on threads of the runtime with a
//! timeout. A missing bundle is remembered as missing for a while; a timeout is not remembered.

mod absent;
mod lookup;
mod mount;
mod packs;
mod registry;
mod store;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bundles::bundle::Bundle;
use bundles::image::{ChainId, Digest, ImageId};
use bundles::pack::PublishedPack as Pack;
use bundles::store::{Origin, Store, StoreError, StoredBundle, Usage};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use node::mount::Mount;
use prometheus_client::metrics::counter::Counter;
use tracing::{debug, info, warn};

use crate::request::image_query::ImageQuery;
use absent::Absent;
pub use lookup::{FoundBundle, Freshness, Lookup, LookupErrors, Stored, StoredOrigin};
use lookup::{LookupError, STORE, check_image, log};
use mount::{MountLookup, MountSource};
use packs::Packs;
use registry::Registries;

/// Timeout of locating packs in a mount. Without a response, objects are fetched one by one.
const PACKS_TIMEOUT: Duration = Duration::from_secs(1);

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

/// All bundle sources.
#[derive(Debug)]
pub struct Sources {
    store: Arc<Store>,
    /// Not set until the settings of the repositories are known.
    mounts: OnceLock<Vec<MountSource>>,
    timeout: Duration,
    absent_ttl: Duration,
    absent: Absent,
    packs: Packs,
    registries: Registries,
    damaged: Counter,
}

impl Sources {
    /// Looks in `store`, then in the mounts, then in the image's registry if it is one of `registries`, each for at most
    /// `timeout`. A missing bundle is remembered as missing for `absent_ttl`.
    pub fn new(store: Arc<Store>, registries: Vec<String>, timeout: Duration, absent_ttl: Duration) -> Self {
        Self {
            store,
            mounts: OnceLock::new(),
            timeout,
            absent_ttl,
            absent: Absent::new(absent_ttl),
            packs: Packs::default(),
            registries: Registries::new(registries, timeout),
            damaged: Counter::default(),
        }
    }

    /// Adds the mounts of the repositories. Only the first call has an effect.
    pub fn set_mounts(&self, mounts: Vec<Mount>) {
        let mounts = mounts.into_iter().map(|mount| MountSource::new(mount, self.timeout)).collect();
        self.mounts.set(mounts).unwrap_or_else(|_| debug!("the mounts are set already"));
    }

    fn mounts(&self) -> &[MountSource] {
        self.mounts.get().map_or(&[], Vec::as_slice)
    }

    /// Looks up a bundle of `query` in all sources.
    pub async fn find(&self, query: &ImageQuery) -> Lookup {
        let errors = match self.stored_bundle(query).await {
            Ok(Stored { bundle, known }) => match self.freshness(&known, query).await {
                Freshness::Current => return Lookup::Found(Box::new(FoundBundle::stored(bundle))),
                Freshness::Replaced(found) => return Lookup::Found(found),
                Freshness::Removed => LookupErrors::default(),
            },
            Err(errors) => errors,
        };
        self.find_outside_store(query, errors).await
    }

    /// Looks up the bundle of `query` in the store. It can be used at once, while its [freshness](Self::freshness) is checked.
    pub async fn stored_bundle(&self, query: &ImageQuery) -> Result<Stored, LookupErrors> {
        match self.in_store(query).await {
            Ok(StoredBundle { bundle, facts, published_packs }) => {
                self.packs.remember_places(published_packs);
                let known = StoredOrigin { chain: bundle.image.chain_id, origin: facts.origin };
                Ok(Stored { bundle, known })
            }
            Err(error) => {
                let mut errors = LookupErrors::default();
                errors.add(error);
                Err(errors)
            }
        }
    }

    /// Looks up a bundle in all sources but the store, which had `errors`.
    pub async fn find_outside_store(&self, query: &ImageQuery, mut errors: LookupErrors) -> Lookup {
        let names = (query.chain, query.manifest);
        if self.absent.has(&names) {
            return errors.into_lookup();
        }
        // Repositories have no bundles by reference.
        let mounts = self.mounts().iter().filter(|_| query.only_reference().is_none());
        let mut lookups: FuturesUnordered<_> = mounts.map(|mount| in_mount(mount, query, None)).collect();
        while let Some(result) = lookups.next().await {
            match result {
                Ok(MountLookup::Found { found, origin }) => {
                    self.keep(&found.bundle, Some(origin)).await;
                    return Lookup::Found(found);
                }
                Ok(MountLookup::Unchanged) => {}
                Err(error) => errors.add(error),
            }
        }
        match in_registry(&self.registries, query).await {
            Ok(found) => {
                // If the repository has a bundle later, that one replaces it.
                self.keep(&found.bundle, None).await;
                return Lookup::Found(found);
            }
            Err(error) => errors.add(error),
        }
        let lookup = errors.into_lookup();
        if matches!(lookup, Lookup::Absent) && query.only_reference().is_none() {
            self.absent.remember(names);
        }
        lookup
    }

    /// Locates the packs of `bundle` in the repository at `mount`: the parts of each, or `None` if it was not found.
    pub async fn packs(&self, mount: &Mount, bundle: &Bundle) -> Vec<Option<Arc<Pack>>> {
        let (found, unknown) = self.packs.known(&bundle.packs, self.absent_ttl);
        let Some(mount) = self.mounts().iter().find(|m| m.mount.path() == mount.path()).filter(|_| !unknown.is_empty())
        else {
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

    /// The bundles in the store, each as `view` shows it.
    pub async fn stored<T: Send + 'static>(&self, view: fn(&Bundle) -> T) -> Result<Vec<T>, StoreUnavailable> {
        let damaged = self.damaged.clone();
        self.with_store(move |store| store::list(store, &damaged, |stored| view(&stored.bundle))).await
    }

    /// Counts damaged bundles that were found in the store and removed.
    pub fn damaged(&self) -> &Counter {
        &self.damaged
    }

    /// Number and size of the bundles in the store.
    pub async fn usage(&self) -> Result<Usage, StoreUnavailable> {
        self.with_store(Store::usage).await
    }

    /// Removes the bundles of an image from the store; returns how many were removed.
    pub async fn remove(&self, query: &ImageQuery) -> Result<usize, StoreUnavailable> {
        let (query, damaged) = (query.clone(), self.damaged.clone());
        let remove = move |store: &Store| {
            let chain = |image: &ImageId| query.is(image).then_some(image.chain_id);
            let chains = store::list(store, &damaged, |stored| chain(&stored.bundle.image))?;
            store.remove(&chains.into_iter().flatten().collect::<Vec<_>>())
        };
        self.with_store(remove).await
    }

    async fn in_store(&self, query: &ImageQuery) -> Result<StoredBundle, LookupError> {
        let (names, damaged) = (query.clone(), self.damaged.clone());
        let look = move |store: &Store| store::find(store, &damaged, &names);
        let started = Instant::now();
        let result = match self.with_store(look).await {
            Ok(Some(stored)) => check_image(STORE, &stored.bundle, query).map(|()| stored),
            Ok(None) => Err(LookupError::Absent),
            // A mount may have an intact bundle, which then replaces it.
            Err(StoreUnavailable::Store(error)) => Err(LookupError::Unusable(error.to_string())),
            Err(error) => Err(LookupError::NoAnswer(error.to_string())),
        };
        log(STORE, started, result.as_ref().map(|stored| Some(&stored.bundle)));
        result
    }

    /// Uses the store on a thread of the runtime, for at most the timeout.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        let store = self.store.clone();
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || span.in_scope(|| work(&store)));
        let result = tokio::time::timeout(self.timeout, task).await;
        let result = result.map_err(|_| StoreUnavailable::Timeout(self.timeout))??;
        if let Err(StoreError::Bundle { .. }) = &result {
            self.damaged.inc();
        }
        Ok(result?)
    }

    /// Compares a stored bundle with the one in its repository. Another bundle replaces it; if the repository has none any more, it is
    /// removed. A bundle that was imported into the store is replaced by that of any repository.
    pub async fn freshness(&self, known: &StoredOrigin, query: &ImageQuery) -> Freshness {
        let StoredOrigin { chain, origin } = known;
        // By chain ID, which every bundle has: a manifest may no longer lead to it.
        let query = &ImageQuery { chain: Some(*chain), ..query.clone() };
        let is_origin = |mount: &&MountSource| origin.as_ref().is_none_or(|origin| origin.mount == mount.mount.path());
        let mounts = self.mounts().iter().filter(is_origin);
        let version = Some(origin.as_ref().map_or("", |origin| origin.version.as_str()));
        let mut lookups: FuturesUnordered<_> = mounts.map(|mount| in_mount(mount, query, version)).collect();
        while let Some(result) = lookups.next().await {
            match result {
                Ok(MountLookup::Found { found, origin }) => {
                    self.keep(&found.bundle, Some(origin)).await;
                    return Freshness::Replaced(found);
                }
                Err(LookupError::Removed) if origin.is_some() => {
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
    async fn keep(&self, bundle: &Bundle, origin: Option<Origin>) {
        let bundle = bundle.clone();
        match self.with_store(move |store| store.put(&bundle, origin)).await {
            Ok(_) => debug!("bundle stored"),
            Err(error) => warn!(%error, "cannot store the bundle"),
        }
    }

    /// Removes a bundle that its repository no longer has.
    async fn forget(&self, chain: ChainId) {
        match self.with_store(move |store| store.remove(&[chain])).await {
            Ok(_) => info!(%chain, "bundle removed from the store: its repository has none any more"),
            Err(error) => warn!(%error, "cannot remove a bundle from the store"),
        }
    }
}

async fn in_mount(mount: &MountSource, query: &ImageQuery, known: Option<&str>) -> Result<MountLookup, LookupError> {
    let started = Instant::now();
    let result = mount.find(query, known).await;
    let bundle = result.as_ref().map(|found| match found {
        MountLookup::Found { found, .. } => Some(&found.bundle),
        MountLookup::Unchanged => None,
    });
    log(&mount.mount.path().to_string_lossy(), started, bundle);
    result
}

async fn in_registry(registries: &Registries, query: &ImageQuery) -> Result<Box<FoundBundle>, LookupError> {
    let started = Instant::now();
    let result = registries.find(query).await;
    log("registry", started, result.as_ref().map(|found| Some(&found.bundle)));
    result
}
