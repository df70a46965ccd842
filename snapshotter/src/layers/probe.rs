//! Reading a repository's mount, which can hang.
//!
//! Only threads that hold no lock read the mount, and a caller waits for them until its deadline. While one of them hangs, no
//! other is started. Of more lookups than [`CONCURRENCY`], the later ones wait for the earlier ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundles::image::Digest;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Repository, layerfs};

/// Threads that read one mount. The CVMFS client serves ten requests at a time by default and must have some left for
/// containers.
const CONCURRENCY: usize = 4;

/// Why a lookup gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The mount returned an error.
    #[error("{0}")]
    Io(io::Error),
    /// The mount did not answer within `lookup_timeout`.
    #[error("the mount did not answer in time")]
    Timeout,
    /// Earlier lookups are still waiting for the mount.
    #[error("earlier lookups have not ended")]
    Busy,
}

/// Limits the threads that read one mount.
#[derive(Debug)]
pub(super) struct Guard {
    permits: Arc<Semaphore>,
    /// Threads that nobody waits for any more and that are still in their first read of the mount.
    hanging: AtomicUsize,
}

impl Default for Guard {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(CONCURRENCY)), hanging: AtomicUsize::new(0) }
    }
}

/// A lookup that was started.
#[derive(Debug)]
pub(super) struct Lookup<T> {
    answer: oneshot::Receiver<io::Result<Option<T>>>,
    progress: Arc<Progress>,
}

/// Starts a lookup of the layer and then calls `next`, both on a thread of its own. `None` if an earlier lookup hangs.
pub(super) fn start<T: Send + 'static>(
    repository: &Arc<Repository>,
    digest: Digest,
    next: impl FnOnce(Option<PathBuf>) -> io::Result<Option<T>> + Send + 'static,
) -> Option<Lookup<T>> {
    if repository.guard.hanging.load(Ordering::Acquire) > 0 {
        return None;
    }
    let (mut sender, answer) = oneshot::channel();
    let progress = Arc::new(Progress::default());
    let (of_thread, repository) = (Arc::clone(&progress), Arc::clone(repository));
    tokio::spawn(async move {
        let permit = tokio::select! {
            permit = Arc::clone(&repository.guard.permits).acquire_owned() => permit,
            () = sender.closed() => return,
        };
        if !of_thread.begin(&repository.guard) {
            return;
        }
        tokio::task::spawn_blocking(move || {
            let found = published(&repository.mount, &digest);
            of_thread.first_read_done(&repository.guard);
            // An error here means that nobody waits any more.
            let _ = sender.send(found.and_then(next));
            drop(permit);
        });
    });
    Some(Lookup { answer, progress })
}

/// Waits for a lookup until the deadline.
pub(super) async fn wait<T>(
    guard: &Guard,
    lookup: Option<Lookup<T>>,
    deadline: Instant,
) -> Result<Option<T>, LookupError> {
    let Lookup { answer, progress } = lookup.ok_or(LookupError::Busy)?;
    match timeout_at(deadline, answer).await {
        Ok(Ok(result)) => result.map_err(LookupError::Io),
        Ok(Err(_)) if progress.has_begun() => Err(LookupError::Io(io::Error::other("the lookup's thread died"))),
        Ok(Err(_)) => Err(LookupError::Busy),
        Err(_) if progress.give_up(guard) => Err(LookupError::Timeout),
        Err(_) => Err(LookupError::Busy),
    }
}

/// The layer's root, if the repository has the layer. Only "does not exist" means that it does not.
fn published(mount: &Path, digest: &Digest) -> io::Result<Option<PathBuf>> {
    let path = layerfs(mount, digest);
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {
            // The kernel may remember directories of a mount that is dead; it asks the client for this each time.
            rustix::fs::statfs(&path)?;
            Ok(Some(path))
        }
        Ok(_) => Err(io::Error::other(format!("{} is not a directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The empty directory below a missing mount has no layers either, which says nothing about the repository.
            let layers = mount.join(".layers");
            match std::fs::symlink_metadata(&layers) {
                Ok(_) => Ok(None),
                Err(error) => Err(io::Error::new(
                    error.kind(),
                    format!(
                        "{}: {error}: is the repository mounted, and does it have container layers?",
                        layers.display()
                    ),
                )),
            }
        }
        Err(error) => Err(error),
    }
}

/// What a thread and the caller who waits for it agree on: whether the thread hangs in its first read of the mount. A thread
/// that lists a large layer does not hang, nor does one that waits for others.
#[derive(Debug, Default)]
struct Progress(Mutex<Step>);

#[derive(Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Queued,
    Reading,
    Done,
    Abandoned,
}

impl Progress {
    /// Called before the first read. Whether it is still needed, and no other thread hangs.
    fn begin(&self, guard: &Guard) -> bool {
        let mut step = self.0.lock();
        let begins = *step == Step::Queued && guard.hanging.load(Ordering::Acquire) == 0;
        if begins {
            *step = Step::Reading;
        }
        begins
    }

    fn first_read_done(&self, guard: &Guard) {
        let mut step = self.0.lock();
        if *step == Step::Abandoned {
            guard.hanging.fetch_sub(1, Ordering::AcqRel);
        }
        *step = Step::Done;
    }

    fn has_begun(&self) -> bool {
        *self.0.lock() != Step::Queued
    }

    /// Called when nobody waits any more. Returns whether the first read had begun.
    fn give_up(&self, guard: &Guard) -> bool {
        let mut step = self.0.lock();
        let had_begun = *step != Step::Queued;
        if *step == Step::Reading {
            guard.hanging.fetch_add(1, Ordering::AcqRel);
        }
        if *step != Step::Done {
            *step = Step::Abandoned;
        }
        had_begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lookup_starts_while_one_hangs() {
        let guard = Guard::default();
        let hanging = || guard.hanging.load(Ordering::Acquire);
        let [hangs, done, queued, late] = [const { Progress(Mutex::new(Step::Queued)) }; 4];
        assert!(hangs.begin(&guard) && done.begin(&guard));
        // One that waited for others does not hang, and does not start any more.
        assert!(!queued.give_up(&guard));
        assert_eq!(hanging(), 0);
        assert!(!queued.begin(&guard));
        assert!(hangs.give_up(&guard));
        assert_eq!(hanging(), 1);
        assert!(!late.begin(&guard), "another one hangs");
        hangs.first_read_done(&guard);
        assert_eq!(hanging(), 0);
        assert!(late.begin(&guard));
        done.first_read_done(&guard);
        assert!(done.give_up(&guard), "slow in something else");
        assert_eq!(hanging(), 0);
    }
}
