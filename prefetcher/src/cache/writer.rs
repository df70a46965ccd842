//! Writes objects to a cache directory in the form of the stock CVMFS client; [`directory`](super::directory) draws its layout.
//!
//! Rules:
//!
//! - The client never checks an object's content again, so only verified bytes may be committed.
//! - A file that the client's user cannot read counts as missing, so owner and mode are set before the object gets its name.
//! - An object that is there is not replaced ([`publish`](super::publish)): other nodes may have it open.
//! - An object is registered with the cache manager when it has its name: a registration without a file inflates the manager's
//!   count. Its temporary name is removed after that, so a daemon that is killed in between leaves a file with two names, which the
//!   next start registers.
//! - Nobody else cleans `txn`, so the next start removes the files that were left there.
//! - Nothing is written while the client's tools reload clients or wipe their caches.
//!
//! Concurrency: only one daemon of a node may fill a cache. It holds a lock in `txn`, so every file with our prefix that is found
//! when the lock is taken is abandoned. The cache may be wiped at any time, and another directory made in its place: every path is
//! resolved anew, and directories are made again as needed.
//!
//! There is no fsync, apart from NFS: after a crash the client's own files are no better off, and [`PosixCache::contains`] compares
//! the size.

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

use super::cache_manager::{CacheManager, ManagerError, Status};
use super::capacity::{Allowed, Content, FreeSpace, UNREGISTERED_SHARE};
use super::directory::{Directory, Rules, failed, remove};
use super::error::CacheError;
use super::file_system::{DiskGuard, FileSystemKind, FileSystemSize};
use super::publish::publish;
use super::registrar::Registrar;
use super::usage::Usage;

/// Timeout of a status query to the cache manager.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// Numbers temporary files over all caches of this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A cache directory. Clones share it. All methods block for as long as a local disk does.
#[derive(Debug, Clone)]
pub struct PosixCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Arc<Directory>,
    registrar: Option<Arc<Registrar>>,
    allowed: Allowed,
    disk: DiskGuard,
    usage: Usage,
    /// Held from the first [`PosixCache::prepare`] on. Shared with the same cache under earlier settings.
    lock: Arc<Mutex<Option<Flock<File>>>>,
}

/// An object that is being written and not visible to anyone yet. Dropped without [`IncomingObject::commit`], it leaves
/// nothing behind.
pub struct IncomingObject {
    cache: Arc<Inner>,
    hash: ContentHash,
    raw_size: u64,
    description: Vec<u8>,
    kind: FileSystemKind,
    file: File,
    temporary: Temporary,
}

/// The name of a temporary file, removed when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Temporary files that were found.
#[derive(Default)]
struct Leftovers {
    /// How many were removed.
    removed: usize,
    /// Objects that they were a second name of. They may not be registered.
    published: Vec<(ContentHash, u64)>,
}

impl PosixCache {
    /// The client's own cache in `dir`, which need not exist yet, without a quota.
    pub fn new(dir: &Path) -> Self {
        let directory = Directory { dir: dir.to_owned(), rules: Rules::Client, pause: None };
        Self::with(directory, Allowed::default(), None)
    }

    /// A cache; every object is registered with `manager`.
    pub fn with(directory: Directory, allowed: Allowed, manager: Option<CacheManager>) -> Self {
        let directory = Arc::new(directory);
        let registrar = manager.map(|manager| Registrar::new(directory.clone(), manager));
        let disk = DiskGuard::new(allowed.reserve);
        Self(Arc::new(Inner { directory, registrar, allowed, disk, usage: Usage::default(), lock: Arc::default() }))
    }

    /// The same directory under other settings, for new requests. Whoever uses this one keeps its settings. A manager in the
    /// same workspace stays the same, because it may still answer.
    pub fn reconfigured(&self, directory: Directory, allowed: Allowed, workspace: Option<&Path>) -> Self {
        let directory = Arc::new(directory);
        let (lock, known) = (self.0.lock.clone(), self.0.registrar.as_ref());
        let registrar = workspace.map(|workspace| match known.filter(|known| known.workspace() == workspace) {
            Some(known) => known.clone(),
            None => {
                let registrar = Registrar::new(directory.clone(), CacheManager::in_workspace(workspace));
                if lock.lock().is_some() {
                    registrar.load(Vec::new());
                }
                registrar
            }
        });
        let disk = DiskGuard::new(allowed.reserve);
        Self(Arc::new(Inner { directory, registrar, allowed, disk, usage: Usage::default(), lock }))
    }

    /// Makes the cache usable and locks it, or says why that is impossible. Called before each request's first object.
    pub fn prepare(&self) -> Result<(), CacheError> {
        let directory = &self.0.directory;
        let mut lock = self.0.lock.lock();
        directory.make_layout()?;
        let txn = directory.txn();
        let opened = directory.open_lock().map_err(failed("open", &txn))?;
        if let Some(held) = &*lock
            && same_file(held, &opened).map_err(failed("look at", &txn))?
        {
            return Ok(());
        }
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => *lock = Some(locked),
            Err((_, Errno::EWOULDBLOCK)) => return Err(CacheError::InUse(directory.dir.clone())),
            // File systems of clusters may have no locks. Then no temporary file is removed as abandoned.
            Err((_, Errno::ENOSYS | Errno::ENOLCK | Errno::EOPNOTSUPP)) if directory.rules == Rules::Group => {
                return Ok(());
            }
            Err((_, errno)) => return Err(failed("lock", &txn)(errno.into())),
        }
        let Leftovers { removed, published } = self.remove_temporary_files()?;
        info!(cache = %directory.dir.display(), removed_temporary_files = removed, "cache is ready");
        if let Some(registrar) = &self.0.registrar {
            registrar.load(published);
        }
        Ok(())
    }

    /// Whether the client's tools want nobody to write now.
    pub fn is_paused(&self) -> bool {
        self.0.directory.check_pause().is_err()
    }

    /// Returns how much may be written now. Waits for the cache manager, if there is one.
    pub fn free_space(&self) -> Result<FreeSpace, CacheError> {
        let Inner { directory, allowed, .. } = &*self.0;
        let size = FileSystemSize::query(&directory.dir).map_err(failed("look at the space of", &directory.dir))?;
        let (content, status) = self.content();
        Ok(FreeSpace {
            bytes: allowed.free_space(content, size),
            objects: size.available_inodes(),
            hourly_bytes: allowed.hourly(size),
            quota: allowed.quota,
            used: status.map(|status| status.used),
            pinned: status.map(|status| status.pinned),
            unregistered: content.unregistered,
        })
    }

    /// What is in the cache, and what the cache manager says about it.
    fn content(&self) -> (Content, Option<Status>) {
        let Some(registrar) = &self.0.registrar else {
            return (Content { registers: true, ..Content::default() }, None);
        };
        let status = registrar.status(STATUS_TIMEOUT);
        let registers = !matches!(status, Err(ManagerError::NoManager(_) | ManagerError::UnsupportedProtocol { .. }));
        let status = status.inspect_err(|error| debug!(%error, "bytes in the cache are unknown")).ok();
        let used = if registers {
            status.map(|status| status.used)
        } else {
            registrar.forget_removed();
            self.counted()
        };
        let (_, unregistered) = registrar.unregistered();
        let pinned = status.map_or(0, |status| status.pinned);
        (Content { used, pinned, unregistered, registers }, status)
    }

    /// Bytes in a cache with a quota that nobody else counts, without those that are not registered.
    fn counted(&self) -> Option<u64> {
        self.0.allowed.quota?;
        let counted = self.0.usage.bytes(self.0.directory.folders());
        let counted = counted.inspect_err(|error| debug!(%error, "cannot count the bytes in the cache")).ok()?;
        let unregistered = self.0.registrar.as_ref().map_or(0, |registrar| registrar.unregistered().1);
        Some(counted.saturating_sub(unregistered))
    }

    /// Returns the bytes in the cache that cannot be evicted now, if there is a cache manager that answers.
    pub fn pinned(&self) -> Option<u64> {
        Some(self.0.registrar.as_ref()?.status(STATUS_TIMEOUT).ok()?.pinned)
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
        let Inner { directory, registrar, allowed, disk, .. } = &*self.0;
        directory.check_pause()?;
        if let Some(registrar) = registrar {
            registrar.check_bound(raw_size, allowed.quota.map(|quota| quota / UNREGISTERED_SHARE))?;
        }
        let dir = &directory.dir;
        disk.take(dir, raw_size)
            .map_err(failed("look at the space of", dir))?
            .map_err(|size| CacheError::DiskFull { dir: dir.clone(), size, reserve: allowed.reserve })?;
        // Queried each time, because another file system may be mounted there.
        let kind = FileSystemKind::query(dir).map_err(failed("look at the file system of", dir))?;
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let path = directory.temporary(hash, number, kind);
        let file = directory.make_file(&path)?;
        Ok(IncomingObject {
            cache: self.0.clone(),
            hash: *hash,
            raw_size,
            description: description.to_vec(),
            kind,
            file,
            temporary: Temporary(path),
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

    /// Removes this daemon's temporary files.
    fn remove_temporary_files(&self) -> Result<Leftovers, CacheError> {
        let directory = &self.0.directory;
        let prefix = directory.rules.temporary_prefix();
        let kind =
            FileSystemKind::query(&directory.dir).map_err(failed("look at the file system of", &directory.dir))?;
        let mut leftovers = Leftovers::default();
        for dir in directory.temporary_directories(kind) {
            for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
                let entry = entry.map_err(failed("list", &dir))?;
                let name = entry.file_name();
                let Some(name) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
                if let Some(found) = entry.metadata().ok().filter(|found| found.nlink() > 1)
                    && let Some(hash) = name.rsplit('.').next().and_then(|hash| hash.parse().ok())
                {
                    leftovers.published.push((hash, found.len()));
                }
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                leftovers.removed += 1;
            }
        }
        Ok(leftovers)
    }
}

impl IncomingObject {
    /// Makes the object visible and registers it with the cache manager. Must be called only after its hash and size were
    /// verified.
    pub fn commit(self) -> Result<(), CacheError> {
        let Self { cache, hash, raw_size, description, kind, file, temporary } = self;
        let Inner { directory, registrar, usage, .. } = &*cache;
        directory.check_pause()?;
        // Network file systems say only now that a write has failed, and other nodes must not see an object in part.
        if kind == FileSystemKind::Nfs {
            file.sync_data().map_err(failed("write", &temporary.0))?;
        }
        nix::unistd::close(file).map_err(|errno| failed("write", &temporary.0)(errno.into()))?;
        let target = directory.object(&hash);
        let named = directory.in_dir_of(&target, || publish(&temporary.0, &target));
        named.map_err(failed("give an object the name", &target))?;
        usage.add(raw_size);
        if let Some(registrar) = registrar {
            registrar.register(&hash, raw_size, &description);
        }
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

fn same_file(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(test)]
mod tests;
