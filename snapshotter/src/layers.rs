//! Finding layers in the mounted repositories.
//!
//! A published layer is at `<mount>/.layers/<first 2 hex digits>/<hex digits>/layerfs`, by the digest of its compressed
//! form. Whatever keeps it from being found, the layer is then unpacked normally, so every answer but "here it is" is
//! the same to containerd; they are told apart, counted and logged for people.
//!
//! A mount can hang. So the file system is only touched by threads of their own, which hold no lock, and a caller waits
//! for them no longer than the deadline. While one of them hangs, no other is sent after it. Of more look-ups at once than
//! the mount should get, the later ones wait for the earlier ones.

mod mounted;
mod progress;
mod told;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bundles::image::Digest;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::config;
use crate::counters::Counters;
use crate::store::Store;
use crate::whiteouts::{Examined, walk};

use progress::Progress;
use told::Told;

/// Threads at work on one repository. The CVMFS client serves ten requests at a time by default and must have some left
/// for containers.
const AT_A_TIME: usize = 4;

/// A published layer.
#[derive(Debug)]
pub struct Found {
    /// The repository's name.
    pub repository: String,
    /// The layer's root directory.
    pub layerfs: PathBuf,
    /// What is in it.
    pub examined: Examined,
}

/// Why a layer cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// No repository has it.
    Absent,
    /// None of those that could be asked has it, but not all could.
    Unknown,
}

/// The repositories of the configuration.
#[derive(Debug)]
pub struct Repositories {
    repositories: Vec<Arc<Repository>>,
    deadline: Duration,
    store: Arc<Store>,
    counters: Arc<Counters>,
}

impl Repositories {
    /// Those that are configured. Nothing is touched yet.
    pub fn new(
        repositories: &[config::Repository],
        deadline: Duration,
        store: Arc<Store>,
        counters: Arc<Counters>,
    ) -> Self {
        let repositories = repositories.iter().map(|repository| Arc::new(Repository::new(repository))).collect();
        Self { repositories, deadline, store, counters }
    }

    /// Looks for a layer everywhere at once and takes it from the first repository, in the order of the configuration,
    /// that has it. `manifest` is that of the image that is being pulled, if containerd tells it: the image's bundle may spare
    /// looking through the layer.
    pub async fn find(&self, digest: Digest, manifest: Option<Digest>) -> Result<Found, NotFound> {
        let deadline = Instant::now() + self.deadline;
        let look_for = |repository| self.look_for(repository, digest, manifest);
        let look_ups: Vec<_> = self.repositories.iter().map(look_for).collect();
        let mut not_found = NotFound::Absent;
        for (repository, look_up) in self.repositories.iter().zip(look_ups) {
            match self.wait(repository, look_up, deadline).await {
                Ok(Some(examined)) => {
                    repository.well();
                    let layerfs = layerfs(&repository.mount, &digest);
                    return Ok(Found { repository: repository.name.clone(), layerfs, examined });
                }
                Ok(None) => repository.well(),
                Err(trouble) => {
                    not_found = NotFound::Unknown;
                    self.troubled(repository, &trouble);
                }
            }
        }
        Err(not_found)
    }

    fn troubled(&self, repository: &Repository, trouble: &Trouble) {
        repository.ill(trouble);
        match trouble {
            Trouble::Io(_) => self.counters.lookups_failed.increment(),
            Trouble::TimedOut => self.counters.lookups_timed_out.increment(),
            Trouble::Busy => self.counters.lookups_skipped.increment(),
        }
    }

    fn look_for(
        &self,
        repository: &Arc<Repository>,
        digest: Digest,
        manifest: Option<Digest>,
    ) -> Option<LookUp<Examined>> {
        let (store, counters, of) = (Arc::clone(&self.store), Arc::clone(&self.counters), Arc::clone(repository));
        self.start(repository, digest, move |found| {
            found.map(|layerfs| of.examine(&digest, manifest.as_ref(), &layerfs, &store, &counters)).transpose()
        })
    }

    /// Looks whether the layer is there and then does `next`, on a thread of its own.
    fn start<T: Send + 'static>(
        &self,
        repository: &Arc<Repository>,
        digest: Digest,
        next: impl FnOnce(Option<PathBuf>) -> io::Result<Option<T>> + Send + 'static,
    ) -> Option<LookUp<T>> {
        if repository.hanging.load(Ordering::Acquire) > 0 {
            return None;
        }
        let (mut sender, answer) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let (of_thread, repository) = (Arc::clone(&progress), Arc::clone(repository));
        tokio::spawn(async move {
            let permit = tokio::select! {
                permit = Arc::clone(&repository.permits).acquire_owned() => permit,
                () = sender.closed() => return,
            };
            if !of_thread.begin(&repository) {
                return;
            }
            // The task is not aborted when nobody waits any more: what it finds out late is kept for the next pull.
            tokio::task::spawn_blocking(move || {
                let found = stat(&repository.mount, &digest);
                of_thread.looked_up(&repository);
                // An error here means that nobody waits any more.
                let _ = sender.send(found.and_then(next));
                drop(permit);
            });
        });
        Some(LookUp { answer, progress })
    }

    async fn wait<T>(
        &self,
        repository: &Repository,
        look_up: Option<LookUp<T>>,
        deadline: Instant,
    ) -> Result<Option<T>, Trouble> {
        let LookUp { answer, progress } = look_up.ok_or(Trouble::Busy)?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result.map_err(Trouble::Io),
            Ok(Err(_)) if progress.has_begun() => Err(Trouble::Io(io::Error::other("the look-up died"))),
            Ok(Err(_)) => Err(Trouble::Busy),
            Err(_) if progress.give_up(repository) => Err(Trouble::TimedOut),
            Err(_) => Err(Trouble::Busy),
        }
    }
}

/// Where a layer is published.
fn layerfs(mount: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    mount.join(".layers").join(&hex[..2]).join(&hex).join("layerfs")
}

/// The layer's root, if the repository has it. Only "does not exist" means that it does not.
fn stat(mount: &Path, digest: &Digest) -> io::Result<Option<PathBuf>> {
    let path = layerfs(mount, digest);
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {
            // The kernel may remember the directory of a mount that is dead. This is asked of the server each time.
            rustix::fs::statfs(&path)?;
            Ok(Some(path))
        }
        Ok(_) => Err(io::Error::other(format!("{} is no directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The empty directory below a mount that is not there has no layers either, but that says nothing.
            let layers = mount.join(".layers");
            match std::fs::symlink_metadata(&layers) {
                Ok(_) => Ok(None),
                Err(error) => Err(io::Error::new(
                    error.kind(),
                    format!("{}: {error}: is the repository mounted, and one of container layers?", layers.display()),
                )),
            }
        }
        Err(error) => Err(error),
    }
}

#[derive(Debug)]
struct LookUp<T> {
    answer: oneshot::Receiver<io::Result<Option<T>>>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
enum Trouble {
    Io(io::Error),
    TimedOut,
    Busy,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::TimedOut => f.write_str("no answer within the deadline"),
            Self::Busy => f.write_str("earlier look-ups have not ended"),
        }
    }
}

#[derive(Debug)]
struct Repository {
    name: String,
    mount: PathBuf,
    told: Told,
    permits: Arc<Semaphore>,
    /// Threads given up while in their first look at the mount, and still there.
    hanging: AtomicUsize,
    is_ill: AtomicBool,
}

impl Repository {
    fn new(config: &config::Repository) -> Self {
        Self {
            name: config.name.clone(),
            mount: config.mount.clone(),
            told: Told::new(config.mount.clone()),
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            hanging: AtomicUsize::new(0),
            is_ill: AtomicBool::new(false),
        }
    }

    /// What there is to know of the layer at `layerfs`: from an earlier time, from the image's bundle, or by looking through it.
    fn examine(
        &self,
        layer: &Digest,
        manifest: Option<&Digest>,
        layerfs: &Path,
        store: &Store,
        counters: &Counters,
    ) -> io::Result<Examined> {
        if let Some(examined) = store.examined(&self.name, layer).map_err(io::Error::other)? {
            return Ok(examined);
        }
        let (examined, counter) = match manifest.and_then(|manifest| self.told.layer(manifest, layer, layerfs)) {
            Some(told) => (told, &counters.layers_told),
            None => (walk::walk(layerfs)?, &counters.layers_walked),
        };
        store.put_examined(&self.name, layer, &examined).map_err(io::Error::other)?;
        counter.increment();
        Ok(examined)
    }

    fn ill(&self, trouble: &Trouble) {
        if self.is_ill.swap(true, Ordering::AcqRel) {
            tracing::debug!(repository = self.name, mount = %self.mount.display(), %trouble, "still cannot be asked");
        } else {
            tracing::warn!(
                repository = self.name, mount = %self.mount.display(), %trouble,
                "the repository cannot be asked for layers; they are downloaded and unpacked instead until it can"
            );
        }
    }

    fn well(&self) {
        if self.is_ill.swap(false, Ordering::AcqRel) {
            tracing::info!(repository = self.name, "the repository can be asked for layers again");
        }
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
