//! Writes objects to a cache directory in the form of the stock CVMFS client; [`directory`](super::directory) draws its layout.
//!
//! Rules:
//!
//! - The client never checks an object's content again, so only verified bytes may be committed.
//! - A file that the client's user cannot read counts as missing, so owner and mode are set before the rename.
//! - An object is registered with the cache manager after the rename: a registration without a file inflates the manager's count.
//! - Nobody else cleans `txn`, so the next start removes the files that were left there.
//!
//! Concurrency: only one daemon of a node may fill a cache. It holds a lock in `txn`, so every file with our prefix that is found
//! when the lock is taken is abandoned. The cache may be wiped at any time; directories are made again as needed.
//!
//! There is no fsync: after a crash the client's own files are no better off, and [`PosixCache::contains`] compares the size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bundles::object::ContentHash;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use tracing::{debug, info};

use super::cache_manager::CacheManager;
use super::capacity::{Allowed, FileSystemSize, FreeSpace};
use super::directory::{Directory, Rules, failed, remove};
use super::error::CacheError;

/// Timeout of a status query to the cache manager.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Numbers temporary files over all caches of this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A cache directory. Clones share it. All methods block for as long as a local disk does.
#[derive(Debug, Clone)]
pub struct PosixCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Directory,
    manager: Option<CacheManager>,
    allowed: Allowed,
    /// Held from the first [`PosixCache::prepare`] on.
    lock: Mutex<Option<Flock<File>>>,
}

/// An object that is being written and not visible to anyone yet. Dropped without [`IncomingObject::commit`], it leaves
/// nothing behind.
pub struct IncomingObject {
    cache: Arc<Inner>,
    hash: ContentHash,
    raw_size: u64,
    description: Vec<u8>,
    path: PathBuf,
    file: File,
    committed: bool,
}

impl PosixCache {
    /// The client's own cache in `dir`, which need not exist yet, without a quota.
    pub fn new(dir: &Path) -> Self {
        Self::with(dir, Rules::Client, Allowed { share: 1.0, quota: None }, None)
    }

    /// A cache in `dir`; every object is registered with `manager`.
    pub fn with(dir: &Path, rules: Rules, allowed: Allowed, manager: Option<CacheManager>) -> Self {
        let directory = Directory { dir: dir.to_owned(), rules };
        Self(Arc::new(Inner { directory, manager, allowed, lock: Mutex::new(None) }))
    }

    /// Makes the cache usable and locks it, or says why that is impossible. Called before each request's first object.
    pub fn prepare(&self) -> Result<(), CacheError> {
        let directory = &self.0.directory;
        let (dir, txn) = (&directory.dir, directory.txn());
        if let Err(source) = fs::metadata(dir) {
            return Err(CacheError::Io { action: "use the cache directory", path: dir.clone(), source });
        }
        let mut lock = self.0.lock.lock();
        directory.make_dir(&txn)?;
        let opened = directory.open_lock().map_err(failed("open", &txn))?;
        if let Some(held) = &*lock
            && same_file(held, &opened).map_err(failed("look at", &txn))?
        {
            return Ok(());
        }
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => *lock = Some(locked),
            Err((_, Errno::EWOULDBLOCK)) => return Err(CacheError::InUse(dir.clone())),
            // File systems of clusters may have no locks. Then no temporary file is removed as abandoned.
            Err((_, Errno::ENOSYS | Errno::ENOLCK | Errno::EOPNOTSUPP)) if directory.rules == Rules::Group => {
                return Ok(());
            }
            Err((_, errno)) => return Err(failed("lock", &txn)(errno.into())),
        }
        let removed = self.remove_temporary_files()?;
        info!(cache = %dir.display(), removed_temporary_files = removed, "cache is ready");
        Ok(())
    }

    /// Returns how much may be written now. Queries the cache manager, if there is one.
    pub fn free_space(&self) -> Result<FreeSpace, CacheError> {
        let Inner { directory, manager, allowed, .. } = &*self.0;
        let file_system =
            FileSystemSize::query(&directory.dir).map_err(failed("look at the space of", &directory.dir))?;
        let status = manager.as_ref().and_then(|manager| {
            let status = manager.status(STATUS_TIMEOUT);
            status.inspect_err(|error| debug!(%error, "bytes in the cache are unknown")).ok()
        });
        let pinned = status.map(|status| status.pinned);
        Ok(FreeSpace {
            bytes: allowed.free_space(pinned.unwrap_or(0), file_system),
            quota: allowed.quota,
            used: status.map(|status| status.used),
            pinned,
        })
    }

    /// Whether the object is in the cache with its full size.
    pub fn contains(&self, hash: &ContentHash, raw_size: u64) -> bool {
        let path = self.0.directory.object(hash);
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

    /// Begins to write an object. The cache manager shows `description`, a path, to people.
    pub fn begin(&self, hash: &ContentHash, raw_size: u64, description: &[u8]) -> Result<IncomingObject, CacheError> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let directory = &self.0.directory;
        let name = format!("{}{}.{number}", directory.rules.temporary_prefix(), std::process::id());
        let path = directory.txn().join(name);
        let file = directory.make_file(&path)?;
        Ok(IncomingObject {
            cache: self.0.clone(),
            hash: *hash,
            raw_size,
            description: description.to_vec(),
            path,
            file,
            committed: false,
        })
    }

    /// Removes what this process began to write and did not finish.
    pub fn clean(&self) {
        // Without the lock, files with our prefix may be another daemon's.
        if self.0.lock.lock().is_some()
            && let Err(error) = self.remove_temporary_files()
        {
            debug!(%error, "temporary files stay until the next start");
        }
    }

    /// Removes this daemon's files from `txn`; returns how many.
    fn remove_temporary_files(&self) -> Result<usize, CacheError> {
        let txn = self.0.directory.txn();
        let prefix = self.0.directory.rules.temporary_prefix();
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

impl IncomingObject {
    /// Makes the object visible and registers it with the cache manager. Must be called only after its hash and size were
    /// verified.
    pub fn commit(mut self) -> Result<(), CacheError> {
        let Inner { directory, manager, .. } = &*self.cache;
        let target = directory.object(&self.hash);
        let folder = target.parent().unwrap_or(&directory.dir);
        directory.with_dir(folder, || fs::rename(&self.path, &target)).map_err(failed("rename to", &target))?;
        if let Some(manager) = manager {
            manager.insert(&self.hash, self.raw_size, &self.description);
        }
        self.committed = true;
        Ok(())
    }
}

impl Write for IncomingObject {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for IncomingObject {
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
