//! Where bundles come from: the daemon's own store, then the repositories' trees through their mounts.
//!
//! All of these can block for ever (a FUSE mount whose process hangs) and must not block us: every look-up runs on a
//! thread of its own with a deadline, and at most `READERS` at a time are out on one mount, so that a hung one costs
//! so many threads and no more. What is absent is believed for a while; what timed out is not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bundles::bundle::Bundle;
use bundles::file::FileError;
use bundles::image::{ChainId, Digest};
use bundles::publish::{bundle_path, manifest_path};
use bundles::store::Store;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::wanted::Wanted;

/// Most threads that read through one mount. The CVMFS client serves 10 before it makes others wait.
const READERS: usize = 4;
/// Most absent images that are remembered.
const MAX_ABSENT: usize = 4096;

/// What an image was looked for by.
type Names = (Option<ChainId>, Option<Digest>);

/// All places.
#[derive(Debug)]
pub struct Sources {
    store: Arc<Store>,
    mounts: Vec<Mount>,
    deadline: Duration,
    remember_absent: Duration,
    absent: Mutex<HashMap<Names, Instant>>,
}

#[derive(Debug)]
struct Mount {
    path: PathBuf,
    readers: Arc<Semaphore>,
}

/// A bundle, and where it was.
#[derive(Debug)]
pub struct Found {
    /// The bundle.
    pub bundle: Bundle,
    /// "store", or a path.
    pub place: String,
}

/// What a search gave.
#[derive(Debug)]
pub enum Search {
    /// A bundle for the image.
    Found(Box<Found>),
    /// There is none.
    Absent,
    /// There was none, but not all places answered: why not.
    Unsure(String),
    /// There is one that cannot be used: why not.
    Unusable(String),
}

/// Why a place gave no bundle.
enum Miss {
    Absent,
    NoAnswer(String),
    Unusable(String),
}

impl Sources {
    /// Looks in `store`, then below `mounts`; gives each up after `deadline`, and remembers what is absent for
    /// `remember_absent`.
    pub fn new(store: Arc<Store>, mounts: Vec<PathBuf>, deadline: Duration, remember_absent: Duration) -> Self {
        let mount = |path| Mount { path, readers: Arc::new(Semaphore::new(READERS)) };
        let mounts = mounts.into_iter().map(mount).collect();
        Self { store, mounts, deadline, remember_absent, absent: Mutex::default() }
    }

    /// Searches all places for a bundle of `wanted`.
    pub async fn find(&self, wanted: &Wanted) -> Search {
        let key = (wanted.chain, wanted.manifest);
        let mut troubles = Troubles::default();
        match self.timed("store", self.in_store(wanted)).await {
            Ok(found) => return Search::Found(Box::new(found)),
            Err(miss) => troubles.note(miss),
        }
        if self.is_remembered(&key) {
            return troubles.search();
        }
        let mut asked: FuturesUnordered<_> = self
            .mounts
            .iter()
            .map(|mount| async move { self.timed(&mount.path.to_string_lossy(), self.in_mount(mount, wanted)).await })
            .collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(found) => {
                    self.keep(&found.bundle).await;
                    return Search::Found(Box::new(found));
                }
                Err(miss) => troubles.note(miss),
            }
        }
        let search = troubles.search();
        if matches!(search, Search::Absent) {
            self.remember(key);
        }
        search
    }

    /// The bundles in the store.
    pub async fn stored(&self) -> Result<Vec<Bundle>, String> {
        let store = self.store.clone();
        within(self.deadline, "the bundle store", move || store.list().map_err(|e| e.to_string())).await?
    }

    async fn in_store(&self, wanted: &Wanted) -> Result<Found, Miss> {
        let (store, names) = (self.store.clone(), wanted.clone());
        let look = move || {
            if let Some(chain) = &names.chain
                && let Some(bundle) = store.by_chain(chain)?
            {
                return Ok(Some(bundle));
            }
            names.manifest.map_or(Ok(None), |digest| store.by_manifest(&digest))
        };
        match within(self.deadline, "the bundle store", look).await.map_err(Miss::NoAnswer)? {
            Ok(Some(bundle)) => right_image("store".into(), bundle, wanted),
            Ok(None) => Err(Miss::Absent),
            // Perhaps the mount has a good one, which then replaces it.
            Err::<_, bundles::store::StoreError>(e) => Err(Miss::Unusable(e.to_string())),
        }
    }

    async fn in_mount(&self, mount: &Mount, wanted: &Wanted) -> Result<Found, Miss> {
        let by_chain = wanted.chain.iter().map(bundle_path);
        let by_manifest = wanted.manifest.iter().map(manifest_path);
        let paths: Vec<PathBuf> = by_chain.chain(by_manifest).map(|path| mount.path.join(path)).collect();
        let what = format!("mount {}", mount.path.display());
        let no_answer = || Miss::NoAnswer(format!("{what} did not answer: {READERS} reads are waiting for it"));
        let readers = mount.readers.clone();
        let reader = tokio::time::timeout(self.deadline, readers.acquire_owned()).await;
        let Ok(Ok(reader)) = reader else { return Err(no_answer()) };
        let look = move || {
            // Given back when the read returns, however late.
            let _reader = reader;
            paths.iter().find_map(|path| read(path).map(|result| (path.clone(), result)))
        };
        match within(self.deadline, &what, look).await.map_err(Miss::NoAnswer)? {
            None => Err(Miss::Absent),
            Some((path, Ok(bundle))) => right_image(path.to_string_lossy().into_owned(), bundle, wanted),
            Some((_, Err(e @ FileError::Io { .. }))) => Err(Miss::NoAnswer(e.to_string())),
            Some((_, Err(e))) => Err(Miss::Unusable(e.to_string())),
        }
    }

    /// Puts a bundle from a mount into the store. Not being able to is no reason to fail.
    async fn keep(&self, bundle: &Bundle) {
        let (store, bundle) = (self.store.clone(), bundle.clone());
        let put = move || store.put(&bundle).map_err(|e| e.to_string());
        match within(self.deadline, "the bundle store", put).await {
            Ok(Ok(_)) => debug!("bundle put into the store"),
            Ok(Err(error)) | Err(error) => warn!(%error, "bundle not put into the store"),
        }
    }

    async fn timed(&self, place: &str, search: impl Future<Output = Result<Found, Miss>>) -> Result<Found, Miss> {
        let started = Instant::now();
        let result = search.await;
        let took_us = started.elapsed().as_micros() as u64;
        match &result {
            Ok(found) => info!(place = found.place, took_us, objects = found.bundle.objects.len(), "bundle found"),
            Err(Miss::Absent) => debug!(place, took_us, "no bundle here"),
            Err(Miss::NoAnswer(error)) => warn!(place, took_us, error, "no answer whether there is a bundle"),
            Err(Miss::Unusable(error)) => warn!(place, took_us, error, "bundle cannot be used"),
        }
        result
    }

    fn is_remembered(&self, key: &Names) -> bool {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent.get(key).is_some_and(|since| since.elapsed() < self.remember_absent)
    }

    fn remember(&self, key: Names) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= MAX_ABSENT {
            absent.retain(|_, since| since.elapsed() < self.remember_absent);
        }
        if absent.len() < MAX_ABSENT {
            absent.insert(key, Instant::now());
        }
    }
}

/// What was wrong on the way, worst first.
#[derive(Default)]
struct Troubles {
    unusable: Option<String>,
    no_answer: Option<String>,
}

impl Troubles {
    fn note(&mut self, miss: Miss) {
        match miss {
            Miss::Absent => {}
            Miss::Unusable(why) => _ = self.unusable.get_or_insert(why),
            Miss::NoAnswer(why) => _ = self.no_answer.get_or_insert(why),
        }
    }

    fn search(self) -> Search {
        match (self.unusable, self.no_answer) {
            (Some(why), _) => Search::Unusable(why),
            (None, Some(why)) => Search::Unsure(why),
            (None, None) => Search::Absent,
        }
    }
}

/// Reads a bundle; `None` if there is no such file.
fn read(path: &Path) -> Option<Result<Bundle, FileError>> {
    match Bundle::read(path) {
        Err(FileError::Io { source, .. }) if is_absent(&source) => None,
        result => Some(result),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn right_image(place: String, bundle: Bundle, wanted: &Wanted) -> Result<Found, Miss> {
    if wanted.is(&bundle.image) {
        return Ok(Found { bundle, place });
    }
    let (chain, asked) = (bundle.image.chain_id, wanted.to_api());
    Err(Miss::Unusable(format!(
        "{place}: this bundle is for the image with chain ID {chain}, not for chain ID {:?} or manifest {:?}; publish it again",
        asked.chain_id, asked.manifest_digest
    )))
}

/// Runs `work` on a thread of its own and waits for it until the deadline.
async fn within<T: Send + 'static>(
    deadline: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let span = tracing::Span::current();
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(e)) => Err(format!("{what}: the look-up ended unexpectedly: {e}")),
        Err(_) => Err(format!("{what} did not answer within {} s", deadline.as_secs())),
    }
}
