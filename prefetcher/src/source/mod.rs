//! Where bundles come from: the daemon's own store, the repositories' trees through their mounts, the images' registries.
//!
//! A stored bundle can be used at once. Meanwhile it is compared with the one its repository has now, which costs no more
//! than a `stat`: another one takes its place, and if there is none any more it goes. A repository that does not answer, or
//! is not mounted, changes nothing: the stored one is used.
//!
//! All of these can block for ever. Mounts are read through their guard ([`node::mount`]), the store on threads of the runtime with
//! a timeout. That a bundle is absent is remembered for a while; that a lookup timed out is not.

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
pub use lookup::{AtHand, Compared, Found, Known, Search, Troubles};
use lookup::{Miss, STORE, check_image, note, within};
use mount::{MountSource, Sight};
use packs::Packs;
use registry::Registries;

/// A mount that does not tell where packs are within this is not waited for: their objects are had one by one.
const PACKS_PATIENCE: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug)]
pub struct Sources {
    store: Arc<Store>,
    /// Unknown until the settings of the repositories are.
    mounts: OnceLock<Vec<MountSource>>,
    deadline: Duration,
    remember_absent: Duration,
    absent: Absent,
    packs: Packs,
    registries: Registries,
    damaged: Counter,
}

impl Sources {
    /// Looks in `store`, then below the mounts, then in the image's registry if it is one of `registries`, each for at most
    /// `deadline`. That an image has no bundle is remembered for `remember_absent`.
    pub fn new(store: Arc<Store>, registries: Vec<String>, deadline: Duration, remember_absent: Duration) -> Self {
        let registries = Registries::new(registries, deadline);
        let (damaged, packs) = Default::default();
        let absent = Absent::new(remember_absent);
        Self { store, mounts: OnceLock::new(), deadline, remember_absent, absent, packs, registries, damaged }
    }

    /// Adds the mounts of the repositories. Only the first call has an effect.
    pub fn set_mounts(&self, mounts: Vec<Mount>) {
        let mounts = mounts.into_iter().map(|mount| MountSource::new(mount, self.deadline)).collect();
        self.mounts.set(mounts).unwrap_or_else(|_| debug!("the mounts are set already"));
    }

    fn mounts(&self) -> &[MountSource] {
        self.mounts.get().map_or(&[], Vec::as_slice)
    }

    /// Searches all places for a bundle of `wanted`.
    pub async fn find(&self, wanted: &ImageQuery) -> Search {
        let troubles = match self.at_hand(wanted).await {
            Ok(AtHand { bundle, known }) => match self.compared(&known, wanted).await {
                Compared::Same => return Search::Found(Box::new(Found::stored(bundle))),
                Compared::Other(found) => return Search::Found(found),
                Compared::Gone => Troubles::default(),
            },
            Err(troubles) => troubles,
        };
        self.elsewhere(wanted, troubles).await
    }

    /// The bundle of `wanted` in the store, if there is one. It can be used at once, and is to be [compared](Self::compared)
    /// meanwhile.
    pub async fn at_hand(&self, wanted: &ImageQuery) -> Result<AtHand, Troubles> {
        match self.in_store(wanted).await {
            Ok(StoredBundle { bundle, facts, published_packs }) => {
                self.packs.remember_places(published_packs);
                let known = Known { chain: bundle.image.chain_id, origin: facts.origin };
                Ok(AtHand { bundle, known })
            }
            Err(miss) => {
                let mut troubles = Troubles::default();
                troubles.note(miss);
                Err(troubles)
            }
        }
    }

    /// Searches all places but the store, which had `troubles`.
    pub async fn elsewhere(&self, wanted: &ImageQuery, mut troubles: Troubles) -> Search {
        let names = (wanted.chain, wanted.manifest);
        if self.absent.has(&names) {
            return troubles.search();
        }
        // Repositories have no bundles by reference.
        let mounts = self.mounts().iter().filter(|_| wanted.only_reference().is_none());
        let mut asked: FuturesUnordered<_> = mounts.map(|mount| in_mount(mount, wanted, None)).collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(Sight::Found { found, origin }) => {
                    self.keep(&found.bundle, Some(origin)).await;
                    return Search::Found(found);
                }
                Ok(Sight::Same) => {}
                Err(miss) => troubles.note(miss),
            }
        }
        match in_registry(&self.registries, wanted).await {
            Ok(found) => {
                // A repository's bundle takes its place, should there be one later.
                self.keep(&found.bundle, None).await;
                return Search::Found(found);
            }
            Err(miss) => troubles.note(miss),
        }
        let search = troubles.search();
        if matches!(search, Search::Absent) && wanted.only_reference().is_none() {
            self.absent.remember(names);
        }
        search
    }

    /// Where the repository at `mount` has the packs of `bundle`: for each its parts, or none if that is not known.
    pub async fn packs(&self, mount: &Mount, bundle: &Bundle) -> Vec<Option<Arc<Pack>>> {
        let (found, unknown) = self.packs.known(&bundle.packs, self.remember_absent);
        let Some(mount) = self.mounts().iter().find(|m| m.mount.path() == mount.path()).filter(|_| !unknown.is_empty())
        else {
            return found;
        };
        match mount.packs(&unknown, self.deadline.min(PACKS_PATIENCE)).await {
            Ok(located) => {
                for (reference, pack) in unknown.iter().zip(located) {
                    self.packs.remember(reference.digest, pack.map(Arc::new));
                }
                self.keep_places(bundle);
            }
            Err(error) => warn!(%error, "packs not found, fetching object by object"),
        }
        self.packs.known(&bundle.packs, self.remember_absent).0
    }

    /// The repository no longer has a pack of `bundle` where it was: it is looked for again the next time.
    pub fn moved(&self, bundle: &Bundle, pack: &Digest) {
        self.packs.forget(pack);
        self.keep_places(bundle);
    }

    /// Has what is known of the packs of `bundle` noted in the store, some time.
    fn keep_places(&self, bundle: &Bundle) {
        let (known, _) = self.packs.known(&bundle.packs, self.remember_absent);
        let known = bundle.packs.iter().zip(known);
        let places: Vec<_> = known.filter_map(|(pack, known)| Some((pack.digest, Pack::clone(&*known?)))).collect();
        let (store, chain) = (self.store.clone(), bundle.image.chain_id);
        tokio::task::spawn_blocking(move || {
            store
                .put_published_packs(&chain, &places)
                .unwrap_or_else(|error| warn!(%error, "places of packs not noted"));
        });
    }

    /// What `of` makes of the bundles in the store.
    pub async fn stored<T: Send + 'static>(&self, of: fn(&Bundle) -> T) -> Result<Vec<T>, String> {
        let damaged = self.damaged.clone();
        self.ask_store(move |store| store::list(store, &damaged, |stored| of(&stored.bundle))).await?
    }

    /// How many damaged bundles were found in the store, and removed, until now.
    pub fn damaged(&self) -> &Counter {
        &self.damaged
    }

    /// How much is in the store.
    pub async fn usage(&self) -> Result<Usage, String> {
        self.ask_store(Store::usage).await?
    }

    /// Removes the bundles of an image from the store; how many there were.
    pub async fn remove(&self, wanted: &ImageQuery) -> Result<usize, String> {
        let (wanted, damaged) = (wanted.clone(), self.damaged.clone());
        let remove = move |store: &Store| {
            let chain = |image: &ImageId| wanted.is(image).then_some(image.chain_id);
            let chains = store::list(store, &damaged, |stored| chain(&stored.bundle.image))?;
            store.remove(&chains.into_iter().flatten().collect::<Vec<_>>())
        };
        self.ask_store(remove).await?
    }

    async fn in_store(&self, wanted: &ImageQuery) -> Result<StoredBundle, Miss> {
        let (names, damaged) = (wanted.clone(), self.damaged.clone());
        let look = move |store: &Store| store::find(store, &damaged, &names);
        let started = Instant::now();
        let result = match self.ask_store(look).await.map_err(Miss::NoAnswer)? {
            Ok(Some(stored)) => check_image(STORE, &stored.bundle, wanted).map(|()| stored),
            Ok(None) => Err(Miss::Absent),
            // Perhaps the mount has a good one, which then replaces it.
            Err(error) => Err(Miss::Unusable(error)),
        };
        note(STORE, started, result.as_ref().map(|stored| Some(&stored.bundle)));
        result
    }

    /// Has the store asked on a thread of its own.
    async fn ask_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Result<T, String>, String> {
        let store = self.store.clone();
        let answer = within(self.deadline, "the bundle store", move || ask(&store)).await?;
        if let Err(StoreError::Bundle { .. }) = &answer {
            self.damaged.inc();
        }
        Ok(answer.map_err(|error| error.to_string()))
    }

    /// Asks the repository of a stored bundle what it has now. Another one is stored; if there is none any more it goes from
    /// the store. One that was put into the store by hand gives way to any repository's.
    pub async fn compared(&self, known: &Known, wanted: &ImageQuery) -> Compared {
        let Known { chain, origin } = known;
        // By the name that every bundle has: a manifest may no longer lead to it.
        let wanted = &ImageQuery { chain: Some(*chain), ..wanted.clone() };
        let is_origin = |mount: &&MountSource| origin.as_ref().is_none_or(|origin| origin.mount == mount.mount.path());
        let mounts = self.mounts().iter().filter(is_origin);
        let version = Some(origin.as_ref().map_or("", |origin| origin.version.as_str()));
        let mut asked: FuturesUnordered<_> = mounts.map(|mount| in_mount(mount, wanted, version)).collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(Sight::Found { found, origin }) => {
                    self.keep(&found.bundle, Some(origin)).await;
                    return Compared::Other(found);
                }
                Err(Miss::Gone) if origin.is_some() => {
                    self.forget(*chain).await;
                    return Compared::Gone;
                }
                // in_mount() has told whatever is wrong.
                Ok(Sight::Same) | Err(_) => {}
            }
        }
        Compared::Same
    }

    /// Puts a bundle into the store. Not being able to is no reason to fail.
    async fn keep(&self, bundle: &Bundle, origin: Option<Origin>) {
        let bundle = bundle.clone();
        match self.ask_store(move |store| store.put(&bundle, origin)).await {
            Ok(Ok(_)) => debug!("bundle put into the store"),
            Ok(Err(error)) | Err(error) => warn!(%error, "bundle not put into the store"),
        }
    }

    /// Removes a bundle that its repository no longer has.
    async fn forget(&self, chain: ChainId) {
        match self.ask_store(move |store| store.remove(&[chain])).await {
            Ok(Ok(_)) => info!(%chain, "the repository has this bundle no more: removed from the store"),
            Ok(Err(error)) | Err(error) => warn!(%error, "bundle not removed from the store"),
        }
    }
}

async fn in_mount(mount: &MountSource, wanted: &ImageQuery, known: Option<&str>) -> Result<Sight, Miss> {
    let started = Instant::now();
    let result = mount.look(wanted, known).await;
    let bundle = result.as_ref().map(|sight| match sight {
        Sight::Found { found, .. } => Some(&found.bundle),
        Sight::Same => None,
    });
    note(&mount.mount.path().to_string_lossy(), started, bundle);
    result
}

async fn in_registry(registries: &Registries, wanted: &ImageQuery) -> Result<Box<Found>, Miss> {
    let started = Instant::now();
    let result = registries.look(wanted).await;
    note("registry", started, result.as_ref().map(|found| Some(&found.bundle)));
    result
}
