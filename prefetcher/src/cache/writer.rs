//! A cache directory in the form of the stock CVMFS client, see [`place`](super::place) for what is where.
//!
//! Rules: the client never checks an object's content again, so only verified bytes may
//! be committed; a file that the client's user cannot read counts as missing, so owner and mode are set before the
//! rename; the quota manager is told after the rename, for a record without its file inflates what it counts; nobody
//! cleans `txn`, so our left-overs are removed at the next start.
//!
//! Only one daemon of a node may fill a cache: it holds a lock in the directory `txn`, which also tells that every file with
//! our prefix found at the start is abandoned. The cache may be wiped at any time; folders are made again as needed. No
//! fsync: after a crash the client's own files are no better off, and [`Sink::contains`] compares the size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bundles::object::ContentHash;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tracing::{debug, info};

use super::capacity::{Allowed, Room, Space};
use super::directory::{Directory, Rules, failed, remove};
use super::quota_manager::QuotaManager;
use super::sink::{Incoming, Sink, SinkError};

/// A quota manager that does not answer so soon is not waited for.
const STATUS_DEADLINE: Duration = Duration::from_millis(500);

/// Numbers temporary files over all caches of this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A cache directory.
#[derive(Debug)]
pub struct PosixCache {
    inner: Arc<Inner>,
    allowed: Allowed,
    /// Held from the first [`Sink::prepare`] on.
    lock: Mutex<Option<Flock<File>>>,
}

/// What objects on their way in share.
#[derive(Debug)]
struct Inner {
    place: Directory,
    manager: Option<QuotaManager>,
}

impl PosixCache {
    /// The client's own cache in `dir`, which need not be there yet, without a quota.
    pub fn new(dir: &Path) -> Self {
        Self::with(dir, Rules::Client, Allowed { share: 1.0, quota: None }, None)
    }

    /// A cache in `dir`; `manager` is told of every object.
    pub fn with(dir: &Path, rules: Rules, allowed: Allowed, manager: Option<QuotaManager>) -> Self {
        let place = Directory { dir: dir.to_owned(), rules };
        Self { inner: Arc::new(Inner { place, manager }), allowed, lock: Mutex::new(None) }
    }

    /// Removes this daemon's files from `txn`; returns how many.
    fn sweep(&self) -> Result<usize, SinkError> {
        let txn = self.inner.place.txn();
        let prefix = self.inner.place.rules.temporary_prefix();
        let entries = fs::read_dir(&txn).map_err(failed("list", &txn))?;
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(failed("list", &txn))?;
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Sink for PosixCache {
    fn prepare(&self) -> Result<(), SinkError> {
        let place = &self.inner.place;
        let (dir, txn) = (&place.dir, place.txn());
        if let Err(source) = fs::metadata(dir) {
            return Err(SinkError::Io { action: "use the cache directory", path: dir.clone(), source });
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        place.make_dir(&txn)?;
        let opened = place.open_lock().map_err(failed("open", &txn))?;
        if let Some(held) = &*lock
            && same_file(held, &opened).map_err(failed("look at", &txn))?
        {
            return Ok(());
        }
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => *lock = Some(locked),
            Err((_, Errno::EWOULDBLOCK)) => return Err(SinkError::InUse(dir.clone())),
            // File systems of clusters may have no locks. Then nothing of ours is taken for a left-over.
            Err((_, Errno::ENOSYS | Errno::ENOLCK | Errno::EOPNOTSUPP)) if place.rules == Rules::Group => return Ok(()),
            Err((_, errno)) => return Err(failed("lock", &txn)(errno.into())),
        }
        let removed = self.sweep()?;
        info!(cache = %dir.display(), removed_temporary_files = removed, "cache is ready");
        Ok(())
    }

    fn room(&self) -> Result<Room, SinkError> {
        let Inner { place, manager } = &*self.inner;
        let space = Space::of(&place.dir).map_err(failed("look at the space of", &place.dir))?;
        let status = manager.as_ref().and_then(|manager| {
            let status = manager.status(STATUS_DEADLINE);
            status.inspect_err(|why| debug!(%why, "bytes in the cache not known")).ok()
        });
        let pinned = status.map(|status| status.pinned);
        Ok(Room {
            bytes: self.allowed.room(pinned.unwrap_or(0), space),
            quota: self.allowed.quota,
            used: status.map(|status| status.used),
            pinned,
        })
    }

    fn contains(&self, hash: &ContentHash, raw_size: u64) -> bool {
        let path = self.inner.place.object(hash);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() == raw_size => true,
            Ok(found) => {
                let size = found.len();
                debug!(path = %path.display(), size, raw_size, "object in the cache has another size, fetching it");
                false
            }
            Err(_) => false,
        }
    }

    fn begin(&self, hash: &ContentHash, raw_size: u64, description: &[u8]) -> Result<Box<dyn Incoming>, SinkError> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let place = &self.inner.place;
        let name = format!("{}{}.{number}", place.rules.temporary_prefix(), std::process::id());
        let path = place.txn().join(name);
        let file = place.make_file(&path)?;
        let (inner, hash, description) = (self.inner.clone(), *hash, description.to_vec());
        Ok(Box::new(TemporaryObject { inner, hash, raw_size, description, path, file, committed: false }))
    }

    fn clean(&self) {
        // Without the lock, files with our prefix may be another daemon's.
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_some()
            && let Err(error) = self.sweep()
        {
            debug!(%error, "left-overs stay until the next start");
        }
    }
}

struct TemporaryObject {
    inner: Arc<Inner>,
    hash: ContentHash,
    raw_size: u64,
    description: Vec<u8>,
    path: PathBuf,
    file: File,
    committed: bool,
}

impl Write for TemporaryObject {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Incoming for TemporaryObject {
    fn commit(mut self: Box<Self>) -> Result<(), SinkError> {
        let Inner { place, manager } = &*self.inner;
        let target = place.object(&self.hash);
        let folder = target.parent().unwrap_or(&place.dir);
        place.with_dir(folder, || fs::rename(&self.path, &target)).map_err(failed("rename to", &target))?;
        if let Some(manager) = manager {
            manager.insert(&self.hash, self.raw_size, &self.description);
        }
        self.committed = true;
        Ok(())
    }
}

impl Drop for TemporaryObject {
    fn drop(&mut self) {
        if !self.committed {
            remove(&self.path);
        }
    }
}

fn same_file(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(test)]
mod tests;
