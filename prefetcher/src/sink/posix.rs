//! The cache directory of the stock CVMFS client.
//!
//! ```text
//! <cache>/
//!   00/ ... ff/          objects: <2 hex>/<38 hex>, decompressed, mode 0600, owned by the client's user
//!   txn/                 half-written ones; a rename from here makes an object visible
//!     cvmfs-prefetch.<pid>.<n>     ours
//! ```
//!
//! Rules: the client never checks an object's content again, so only verified bytes may
//! be committed; a file that the client's user cannot read counts as missing, so owner and mode are set before the
//! rename; nobody cleans `txn`, so our left-overs are removed at the next start.
//!
//! Only one daemon may fill a cache: it holds a lock on the directory `txn`, which also tells that every file with our
//! prefix found at the start is abandoned. The cache may be wiped at any time; folders are made again as needed. No
//! fsync: after a crash the client's own files are no better off, and [`Sink::contains`] compares the size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bundles::object::ContentHash;
use nix::fcntl::{Flock, FlockArg};
use tracing::{debug, info};

use super::{Incoming, Sink, SinkError};

/// What the names of our temporary files start with.
pub const TEMPORARY_PREFIX: &str = "cvmfs-prefetch.";

/// Numbers temporary files over all caches of this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// A cache directory of the CVMFS client.
#[derive(Debug)]
pub struct PosixCache {
    place: Arc<Place>,
    /// Held from the first [`Sink::prepare`] on.
    lock: Mutex<Option<Flock<File>>>,
}

/// The directory; shared with the objects on their way in.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
}

impl PosixCache {
    /// The cache in `dir`, which need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self { place: Arc::new(Place { dir: dir.to_owned() }), lock: Mutex::new(None) }
    }

    /// Removes files with our prefix from `txn`; returns how many.
    fn sweep(&self) -> Result<usize, SinkError> {
        let txn = self.place.txn();
        let entries = fs::read_dir(&txn).map_err(failed("list", &txn))?;
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(failed("list", &txn))?;
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Sink for PosixCache {
    fn prepare(&self) -> Result<(), SinkError> {
        let dir = &self.place.dir;
        let txn = self.place.txn();
        if let Err(source) = fs::metadata(dir) {
            return Err(SinkError::Io { action: "use the cache directory", path: dir.clone(), source });
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.place.make_dir(&txn)?;
        let opened = File::open(&txn).map_err(failed("open", &txn))?;
        if let Some(held) = &*lock
            && same_file(held, &opened).map_err(failed("look at", &txn))?
        {
            return Ok(());
        }
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => *lock = Some(locked),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(SinkError::InUse(dir.clone())),
            Err((_, errno)) => return Err(failed("lock", &txn)(errno.into())),
        }
        let removed = self.sweep()?;
        info!(cache = %dir.display(), removed_temporary_files = removed, "cache is ready");
        Ok(())
    }

    fn contains(&self, hash: &ContentHash, raw_size: u64) -> bool {
        let path = self.place.object(hash);
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

    fn begin(&self, hash: &ContentHash) -> Result<Box<dyn Incoming>, SinkError> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let txn = self.place.txn();
        let path = txn.join(format!("{TEMPORARY_PREFIX}{}.{number}", std::process::id()));
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = self.place.with_dir(&txn, create).map_err(failed("create", &path))?;
        let incoming = TemporaryObject { place: self.place.clone(), hash: *hash, path, file, committed: false };
        self.place.give_to_owner(&incoming.path, |uid, gid| std::os::unix::fs::fchown(&incoming.file, uid, gid))?;
        Ok(Box::new(incoming))
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

impl Place {
    fn txn(&self) -> PathBuf {
        self.dir.join("txn")
    }

    fn object(&self, hash: &ContentHash) -> PathBuf {
        self.dir.join(hash.cache_path())
    }

    /// Makes one directory below the cache as the client makes it, if it is not there.
    fn make_dir(&self, path: &Path) -> Result<(), SinkError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give_to_owner(path, |uid, gid| std::os::unix::fs::lchown(path, uid, gid)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(failed("create", path)(e)),
        }
    }

    /// As root, what we make belongs to the owner of the cache directory: the client's user.
    fn give_to_owner(
        &self,
        path: &Path,
        chown: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>,
    ) -> Result<(), SinkError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let owner = fs::metadata(&self.dir).map_err(failed("look at", &self.dir))?;
        chown(Some(owner.uid()), Some(owner.gid())).map_err(failed("change the owner of", path))
    }

    /// Does `action`, which needs the directory `dir`; makes the directory if that was what was missing.
    fn with_dir<T>(&self, dir: &Path, action: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match action() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.make_dir(dir).map_err(io::Error::other)?;
                action()
            }
            result => result,
        }
    }
}

struct TemporaryObject {
    place: Arc<Place>,
    hash: ContentHash,
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
        let target = self.place.object(&self.hash);
        let folder = target.parent().unwrap_or(&self.place.dir);
        self.place.with_dir(folder, || fs::rename(&self.path, &target)).map_err(failed("rename to", &target))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for TemporaryObject {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_file(&self.path)
        {
            debug!(path = %self.path.display(), %error, "temporary file not removed");
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    let path = path.to_owned();
    move |source| SinkError::Io { action, path, source }
}

fn same_file(a: &File, b: &File) -> io::Result<bool> {
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    fn put(cache: &PosixCache, hash: &ContentHash, content: &[u8]) {
        let mut incoming = cache.begin(hash).unwrap();
        incoming.write_all(content).unwrap();
        incoming.commit().unwrap();
    }

    #[test]
    fn an_object_is_visible_only_after_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, hash) = (PosixCache::new(dir.path()), ContentHash::sha1([0xab; 20]));
        cache.prepare().unwrap();
        let mut incoming = cache.begin(&hash).unwrap();
        incoming.write_all(b"content").unwrap();
        assert!(!cache.contains(&hash, 7));
        assert_eq!(files(&dir.path().join("txn")).len(), 1);
        incoming.commit().unwrap();
        assert!(cache.contains(&hash, 7) && !cache.contains(&hash, 8));
        let found = fs::metadata(dir.path().join("ab").join("ab".repeat(19))).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o600);
        assert_eq!(found.uid(), fs::metadata(dir.path()).unwrap().uid());
        drop(cache.begin(&hash).unwrap());
        assert!(files(&dir.path().join("txn")).is_empty());
    }

    #[test]
    fn root_gives_what_it_makes_to_the_owner_of_the_cache() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(1234), Some(4321)).unwrap();
        let (cache, hash) = (PosixCache::new(dir.path()), ContentHash::sha1([1; 20]));
        cache.prepare().unwrap();
        put(&cache, &hash, b"x");
        for path in ["txn".to_owned(), "01".to_owned(), hash.cache_path()] {
            let found = fs::metadata(dir.path().join(&path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (1234, 4321), "{path}");
        }
    }

    #[test]
    fn left_overs_of_ours_are_removed_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let txn = dir.path().join("txn");
        fs::create_dir(&txn).unwrap();
        for name in ["cvmfs-prefetch.1.2", "fetchA1b2C3"] {
            fs::write(txn.join(name), "half").unwrap();
        }
        let cache = PosixCache::new(dir.path());
        cache.prepare().unwrap();
        assert_eq!(files(&txn), ["fetchA1b2C3"]);
        // What is begun later is no left-over.
        let incoming = cache.begin(&ContentHash::sha1([1; 20])).unwrap();
        cache.prepare().unwrap();
        incoming.commit().unwrap();
    }

    #[test]
    fn a_second_daemon_is_kept_out_and_a_wiped_cache_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [(); 2].map(|()| PosixCache::new(dir.path()));
        first.prepare().unwrap();
        assert!(matches!(second.prepare(), Err(SinkError::InUse(_))));
        fs::remove_dir_all(dir.path().join("txn")).unwrap();
        put(&first, &ContentHash::sha1([2; 20]), b"y");
        first.prepare().unwrap();
        assert!(matches!(second.prepare(), Err(SinkError::InUse(_))));
        drop(first);
        second.prepare().unwrap();
        let missing = PosixCache::new(&dir.path().join("missing"));
        assert!(missing.prepare().unwrap_err().to_string().contains("missing"));
    }
}
