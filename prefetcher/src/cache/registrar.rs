//! Registers objects with the cache manager, and remembers those that could not be registered.
//!
//! An object that the manager does not know is served, but neither counted nor evicted. It stays unknown until the client rebuilds
//! its database, so the registration is repeated: before that of any later object, by a thread of its own while anything waits, and
//! after a restart of the daemon. What waits is recorded in the cache, so that the record is wiped with the objects:
//!
//! ```text
//! <cache>/cvmfs-prefetch.unregistered      a line for each object: <size> <hash> <description>
//! ```
//!
//! The record may name objects that are registered or gone. Registering twice is harmless, and an object that is not in the cache
//! is not registered. Nothing here fails a prefetch.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bundles::object::ContentHash;
use nix::fcntl::OFlag;
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::cache_manager::{CacheManager, ManagerError, Registration, Status};
use super::directory::{Directory, TEMPORARY_PREFIX, failed, remove};
use super::error::CacheError;

/// Maximum number of objects that are remembered.
pub(super) const MAX_UNREGISTERED: usize = 64 << 10;
/// Maximum number of lines in the record before it is written anew.
const MAX_LINES: usize = 2 * MAX_UNREGISTERED;
/// Maximum number of bytes that are read of a record.
const MAX_RECORD: u64 = 64 << 20;
/// Maximum number of bytes of a description that are remembered.
const MAX_DESCRIPTION: usize = 128;
/// Maximum number of objects that are registered before a new one, or without letting go of the lock.
const BATCH: usize = 256;
/// The first pause of the thread that registers later. Each further pause is longer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The description of an object whose path is not known any more.
const UNKNOWN: &[u8] = b"(prefetched)";

/// Objects of all caches of this process that wait to be registered.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// Returns how many objects wait to be registered.
pub fn waiting() -> u64 {
    WAITING.load(Ordering::Relaxed)
}

/// Registers the objects of one cache.
#[derive(Debug)]
pub(super) struct Registrar {
    directory: Arc<Directory>,
    manager: CacheManager,
    backlog: Mutex<Backlog>,
}

/// Objects that could not be registered, the oldest first.
#[derive(Debug, Default)]
struct Backlog {
    objects: VecDeque<Unregistered>,
    bytes: u64,
    /// Number of lines in the record.
    lines: usize,
    /// Whether the record of an earlier daemon was read.
    is_loaded: bool,
    /// Whether a thread registers later.
    is_retried: bool,
    /// Whether the log has a warning about the protocol.
    has_warned: bool,
}

/// An object that is in the cache and not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unregistered {
    hash: ContentHash,
    size: u64,
    description: Vec<u8>,
}

impl Unregistered {
    fn new(hash: &ContentHash, size: u64, description: &[u8]) -> Self {
        let description = description[..description.len().min(MAX_DESCRIPTION)].to_vec();
        Self { hash: *hash, size, description }
    }

    /// Its line in the record. The description is for people only.
    fn line(&self) -> String {
        let Self { hash, size, description } = self;
        let shown: String = String::from_utf8_lossy(description).chars().filter(|c| !c.is_control()).collect();
        format!("{size} {hash} {shown}\n")
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.splitn(3, ' ');
        let (size, hash) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self::new(&hash, size, words.next()?.as_bytes()))
    }
}

impl Backlog {
    fn push(&mut self, object: Unregistered) {
        self.bytes = self.bytes.saturating_add(object.size);
        self.objects.push_back(object);
        WAITING.fetch_add(1, Ordering::Relaxed);
    }

    fn pop(&mut self) {
        if let Some(object) = self.objects.pop_front() {
            self.bytes = self.bytes.saturating_sub(object.size);
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        WAITING.fetch_sub(self.objects.len() as u64, Ordering::Relaxed);
    }
}

impl Registrar {
    pub(super) fn new(directory: Arc<Directory>, manager: CacheManager) -> Arc<Self> {
        Arc::new(Self { directory, manager, backlog: Mutex::default() })
    }

    /// Directory of the manager's FIFO.
    pub(super) fn workspace(&self) -> &Path {
        self.manager.workspace()
    }

    /// Registers an object, which must be visible already, after all that wait. If that is impossible, remembers it. Blocks for as
    /// long as a local disk does, and some milliseconds if the manager does not read.
    pub(super) fn register(self: &Arc<Self>, hash: &ContentHash, size: u64, description: &[u8]) {
        let mut backlog = self.backlog.lock();
        let result = match self.register_waiting(&mut backlog) {
            Ok(()) if backlog.objects.is_empty() => self.manager.insert(hash, size, description),
            // It comes after those that still wait.
            Ok(()) => return self.remember(&mut backlog, Unregistered::new(hash, size, description)),
            Err(error) => Err(error),
        };
        let Err(error) = result else { return Registration::Registered.increment() };
        let cause = Registration::from(&error);
        cause.increment();
        if cause == Registration::UnsupportedProtocol && !backlog.has_warned {
            backlog.has_warned = true;
            warn!(%error, "objects are written but not registered at the cache manager; the daemon writes a tenth of the quota");
        } else {
            debug!(%error, %hash, "object not registered");
        }
        self.remember(&mut backlog, Unregistered::new(hash, size, description));
    }

    /// Reads the record of an earlier daemon. `published` are further objects that it may not have registered.
    pub(super) fn load(self: &Arc<Self>, published: Vec<(ContentHash, u64)>) {
        self.manager.remove_return_pipes();
        let mut backlog = self.backlog.lock();
        backlog.is_loaded = true;
        let recorded = self.recorded();
        backlog.lines = recorded.len();
        for object in recorded {
            if backlog.objects.len() < MAX_UNREGISTERED && self.is_there(&object) {
                backlog.push(object);
            }
        }
        for (hash, size) in published {
            self.remember(&mut backlog, Unregistered::new(&hash, size, UNKNOWN));
        }
        if !backlog.objects.is_empty() {
            info!(
                objects = backlog.objects.len(),
                "objects of an earlier run are not registered with the cache manager yet"
            );
            self.retry(&mut backlog);
        }
    }

    /// Queries what the manager counts.
    pub(super) fn status(&self, timeout: Duration) -> Result<Status, ManagerError> {
        self.manager.status(timeout)
    }

    /// Returns how many objects are not registered, and their bytes.
    pub(super) fn unregistered(&self) -> (usize, u64) {
        let backlog = self.backlog.lock();
        if backlog.is_loaded {
            return (backlog.objects.len(), backlog.bytes);
        }
        // `check` reads what the daemon recorded.
        let recorded = self.recorded();
        let there = recorded.iter().filter(|object| self.is_there(object));
        there.fold((0, 0), |(objects, bytes), object| (objects + 1, object.size.saturating_add(bytes)))
    }

    /// Forgets objects that are not in the cache any more.
    pub(super) fn forget_removed(&self) {
        let mut backlog = self.backlog.lock();
        for _ in 0..backlog.objects.len() {
            if let Some(object) = backlog.objects.front().cloned() {
                backlog.pop();
                if self.is_there(&object) {
                    backlog.push(object);
                }
            }
        }
    }

    /// Refuses an object of `size` if objects that nobody evicts would have more than `max_bytes`, or be too many to remember.
    pub(super) fn check_bound(&self, size: u64, max_bytes: Option<u64>) -> Result<(), CacheError> {
        let backlog = self.backlog.lock();
        let (objects, bytes) = (backlog.objects.len(), backlog.bytes);
        let has_too_many = max_bytes.is_some_and(|max| bytes.saturating_add(size) > max);
        if objects > 0 && (has_too_many || objects >= MAX_UNREGISTERED) {
            return Err(CacheError::Unregistered { dir: self.directory.dir.clone(), objects, bytes });
        }
        Ok(())
    }

    /// Registers some of those that wait.
    fn register_waiting(&self, backlog: &mut Backlog) -> Result<(), ManagerError> {
        if backlog.objects.is_empty() {
            return Ok(());
        }
        for _ in 0..BATCH {
            let Some(object) = backlog.objects.front() else { break };
            // A registration without a file inflates the manager's count.
            if self.is_there(object) {
                self.manager.insert(&object.hash, object.size, &object.description)?;
                Registration::Registered.increment();
            }
            backlog.pop();
        }
        if backlog.objects.is_empty() {
            remove(&self.record());
            backlog.lines = 0;
            info!("all objects are registered with the cache manager");
        }
        Ok(())
    }

    fn remember(self: &Arc<Self>, backlog: &mut Backlog, object: Unregistered) {
        // More are not begun, see `check_bound`. These were begun before.
        if backlog.objects.len() < 2 * MAX_UNREGISTERED {
            if let Err(error) = self.write_record(backlog, &object) {
                debug!(%error, "record of objects that are not registered");
            }
            backlog.push(object);
        }
        self.retry(backlog);
    }

    /// Starts a thread that registers later, unless there is one.
    fn retry(self: &Arc<Self>, backlog: &mut Backlog) {
        if !backlog.is_retried {
            let registrar = Arc::downgrade(self);
            let started = std::thread::Builder::new().name("register".into()).spawn(move || register_later(&registrar));
            backlog.is_retried = started.inspect_err(|error| debug!(%error, "no thread registers later")).is_ok();
        }
    }

    fn record(&self) -> PathBuf {
        self.directory.dir.join(format!("{TEMPORARY_PREFIX}unregistered"))
    }

    /// Adds an object to the record. Does not make the directory: if that was removed, the objects were, too.
    fn write_record(&self, backlog: &mut Backlog, object: &Unregistered) -> Result<(), CacheError> {
        let path = self.record();
        let is_long = backlog.lines >= MAX_LINES;
        if is_long {
            remove(&path);
            backlog.lines = 0;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let mut file = options.open(&path).map_err(failed("open", &path))?;
        self.directory.set_owner(&file, &path)?;
        let earlier = backlog.objects.iter().filter(|_| is_long).chain([object]);
        let lines: Vec<String> = earlier.map(Unregistered::line).collect();
        backlog.lines += lines.len();
        file.write_all(lines.concat().as_bytes()).map_err(failed("write", &path))
    }

    /// The objects in the record.
    fn recorded(&self) -> Vec<Unregistered> {
        let path = self.record();
        let read = || {
            let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let file: File = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            let lines = BufReader::new(file.take(MAX_RECORD)).split(b'\n');
            // The last line may be incomplete after a crash.
            Ok(lines.map_while(Result::ok).filter_map(|line| Unregistered::parse(&line)).take(MAX_LINES).collect())
        };
        match read() {
            Ok(objects) => objects,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    warn!(path = %path.display(), %error, "cannot read which objects are not registered");
                }
                Vec::new()
            }
        }
    }

    /// Whether the object is in the cache.
    fn is_there(&self, object: &Unregistered) -> bool {
        let found = fs::symlink_metadata(self.directory.object(&object.hash));
        found.is_ok_and(|found| found.is_file() && found.len() == object.size)
    }
}

/// Registers what waits, until nothing does or the cache is not used any more.
fn register_later(registrar: &Weak<Registrar>) {
    let mut pause = FIRST_PAUSE;
    loop {
        std::thread::sleep(pause);
        let Some(registrar) = registrar.upgrade() else { return };
        let mut backlog = registrar.backlog.lock();
        pause = match registrar.register_waiting(&mut backlog) {
            Ok(()) if backlog.objects.is_empty() => {
                backlog.is_retried = false;
                return;
            }
            Ok(()) => FIRST_PAUSE,
            Err(_) => MAX_PAUSE.min(pause * 2),
        };
    }
}

#[cfg(test)]
mod tests;
