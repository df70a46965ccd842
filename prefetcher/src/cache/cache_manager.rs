//! Registers objects with the cache manager of the CVMFS client, which has not fetched them itself.
//!
//! The manager of a shared cache is a process that reads fixed records from the FIFO `cachemgr` in the workspace and counts, evicts
//! and pins objects. An object that is not registered is served, but neither counted nor evicted. The records are internal to the
//! client and kept stable by its authors; the file `cachemgr.protocol` beside the FIFO holds their revision. Any other revision than
//! ours is refused, because a record that the manager does not know kills it, and then the mount.
//!
//! What to do with an object that cannot be registered decides the [`registrar`](super::registrar).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bundles::object::{ContentHash, HashAlgorithm};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::Mode;
use parking_lot::Mutex;
use tracing::debug;

/// Revision of the records that are written here.
pub const PROTOCOL: u32 = 2;
/// Maximum size of a record. A longer one would not be written in one piece.
pub const MAX_RECORD: usize = 512;
/// Size of a record without its description.
const HEAD: usize = 48;
const INSERT: u32 = 1;
const STATUS: u32 = 10;
/// The client counts its own return FIFOs from 0.
const FIRST_RETURN_PIPE: i32 = 1 << 20;
/// Number of names that are tried for a return FIFO.
const NAMES: u32 = 16;
/// Milliseconds between two checks of the deadline.
const POLL: u8 = 1;
/// How often a record is written to a full FIFO, [`POLL`] apart, before it counts as full.
const ATTEMPTS: usize = 10;

static NEXT_RETURN_PIPE: AtomicI32 = AtomicI32::new(FIRST_RETURN_PIPE);
static REGISTRATIONS: [AtomicU64; Registration::ALL.len()] = [const { AtomicU64::new(0) }; Registration::ALL.len()];

/// Result of the registration of an object, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// The record was written.
    Registered,
    /// Nobody reads the FIFO, or there is none.
    NoManager,
    /// The manager uses another revision of the protocol.
    UnsupportedProtocol,
    /// The manager does not read fast enough.
    PipeFull,
    /// Any other error.
    Failed,
}

impl Registration {
    /// Every result.
    pub const ALL: [Self; 5] =
        [Self::Registered, Self::NoManager, Self::UnsupportedProtocol, Self::PipeFull, Self::Failed];

    /// The result as it appears in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::NoManager => "no_manager",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::PipeFull => "pipe_full",
            Self::Failed => "failed",
        }
    }

    /// Returns how many registrations had this result since the start of the process.
    pub fn count(self) -> u64 {
        REGISTRATIONS[self as usize].load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub(super) fn increment(self) {
        REGISTRATIONS[self as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl From<&ManagerError> for Registration {
    fn from(error: &ManagerError) -> Self {
        match error {
            ManagerError::NoManager(_) => Self::NoManager,
            ManagerError::UnsupportedProtocol { .. } => Self::UnsupportedProtocol,
            ManagerError::Full => Self::PipeFull,
            ManagerError::NoAnswer(_) | ManagerError::Io { .. } => Self::Failed,
        }
    }
}

/// Returns how many registrations had each result since the start of the process.
pub fn registrations() -> [(&'static str, u64); Registration::ALL.len()] {
    Registration::ALL.map(|result| (result.name(), result.count()))
}

/// Why the manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// Nobody reads the FIFO, or there is none.
    #[error("no cache manager listens at {0}")]
    NoManager(PathBuf),
    /// The manager uses another revision of the protocol.
    #[error("{path} holds {found:?}, this daemon uses revision {PROTOCOL}; upgrade cvmfs-prefetch")]
    UnsupportedProtocol {
        /// File with the revision.
        path: PathBuf,
        /// Content of the file.
        found: String,
    },
    /// The FIFO is full.
    #[error("the cache manager does not keep up with its FIFO")]
    Full,
    /// No answer to a query in time.
    #[error("the cache manager did not answer within {} s", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// Any other error of the operating system.
    #[error("{path}: {source}")]
    Io {
        /// The file or FIFO.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// What the manager counts in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes in the cache.
    pub used: u64,
    /// Bytes that cannot be evicted now.
    pub pinned: u64,
}

/// The record that registers an object.
pub fn insert_record(hash: &ContentHash, raw_size: u64, description: &[u8]) -> Vec<u8> {
    let algorithm: u64 = match hash.algorithm {
        HashAlgorithm::Sha1 => 0,
        HashAlgorithm::Rmd160 => 1,
        HashAlgorithm::Shake128 => 2,
    };
    let size = (raw_size & (u64::MAX >> 3)) | (algorithm << 61);
    record(INSERT, size, -1, &hash.digest, description)
}

/// The record that asks for [`Status`] over the return FIFO `pipe<number>`.
fn status_record(number: i32) -> Vec<u8> {
    record(STATUS, 0, number, &[0; 20], b"")
}

fn record(command: u32, size: u64, return_pipe: i32, digest: &[u8; 20], description: &[u8]) -> Vec<u8> {
    let description = &description[..description.len().min(MAX_RECORD - HEAD)];
    let mut record = Vec::with_capacity(HEAD + description.len());
    record.extend(command.to_le_bytes());
    record.extend([0; 4]);
    record.extend(size.to_le_bytes());
    record.extend(return_pipe.to_le_bytes());
    record.extend(digest);
    record.extend((description.len() as u16).to_le_bytes());
    record.resize(HEAD, 0);
    record.extend(description);
    record
}

/// The cache manager of one workspace.
#[derive(Debug)]
pub struct CacheManager {
    workspace: PathBuf,
    /// Whether the FIFO was full and stayed full. Nobody waits for it again until a record was written.
    is_full: AtomicBool,
    /// The end of a return FIFO that an answer may still be written to. Without a reader, the manager would be killed.
    late: Mutex<Option<File>>,
}

impl CacheManager {
    /// The manager whose FIFO is in `workspace`. It need not run yet.
    pub fn in_workspace(workspace: &Path) -> Self {
        Self { workspace: workspace.to_owned(), is_full: AtomicBool::new(false), late: Mutex::new(None) }
    }

    /// Directory of the manager's FIFO.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Registers an object, which must be visible already. Waits some milliseconds while the FIFO is full, so it must be called off
    /// the asynchronous threads.
    pub fn insert(&self, hash: &ContentHash, raw_size: u64, description: &[u8]) -> Result<(), ManagerError> {
        let record = insert_record(hash, raw_size, description);
        let mut sent = self.send(&record);
        for _ in 1..ATTEMPTS {
            if !matches!(sent, Err(ManagerError::Full)) || self.is_full.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(POLL.into()));
            sent = self.send(&record);
        }
        self.is_full.store(matches!(sent, Err(ManagerError::Full)), Ordering::Relaxed);
        sent
    }

    /// Queries what is in the cache. Waits at most `timeout` for the answer.
    pub fn status(&self, timeout: Duration) -> Result<Status, ManagerError> {
        self.reachable()?;
        let end = Instant::now() + timeout;
        let mut answer = self.return_pipe()?;
        self.send(&status_record(answer.number))?;
        let (mut bytes, mut filled) = ([0; 16], 0);
        while filled < bytes.len() {
            match answer.file.read(&mut bytes[filled..]) {
                Ok(read) if read > 0 => filled += read,
                // Nobody has opened the other end yet, or has not written.
                Ok(_) => wait(&answer.file),
                Err(e) if e.kind() == ErrorKind::WouldBlock => wait(&answer.file),
                Err(source) => return Err(ManagerError::Io { path: answer.path.clone(), source }),
            }
            if filled < bytes.len() && Instant::now() > end {
                let kept = answer.file.try_clone().ok();
                // Its name goes first, so that the other end is not opened any more.
                drop(answer);
                *self.late.lock() = kept;
                return Err(ManagerError::NoAnswer(timeout));
            }
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Ok(Status { used: number(0), pinned: number(8) })
    }

    /// Checks that a manager listens and uses our revision of the protocol.
    pub fn reachable(&self) -> Result<(), ManagerError> {
        self.open().map(|_| ())
    }

    /// Removes the return FIFOs of a daemon that was killed. The manager does so at its own start only.
    pub(super) fn remove_return_pipes(&self) {
        let entries = fs::read_dir(&self.workspace).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("pipe")?.parse().ok());
            if number.is_some_and(|number: i32| number >= FIRST_RETURN_PIPE)
                && let Err(error) = fs::remove_file(entry.path())
            {
                debug!(path = %entry.path().display(), %error, "return FIFO not removed");
            }
        }
    }

    fn open(&self) -> Result<(File, PathBuf), ManagerError> {
        let path = self.workspace.join("cachemgr");
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let fifo = match OpenOptions::new().write(true).custom_flags(flags.bits()).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(Errno::ENXIO as i32) => {
                return Err(ManagerError::NoManager(path));
            }
            Err(source) => return Err(ManagerError::Io { path, source }),
        };
        match fifo.metadata() {
            Ok(found) if found.file_type().is_fifo() => {}
            Ok(_) => return Err(ManagerError::Io { path, source: io::Error::other("it is not a FIFO") }),
            Err(source) => return Err(ManagerError::Io { path, source }),
        }
        // Read each time: an upgraded client has another manager.
        let protocol = self.workspace.join("cachemgr.protocol");
        let mut found = String::new();
        let read = File::open(&protocol).and_then(|file| file.take(32).read_to_string(&mut found));
        match (read, found.trim().parse()) {
            (Ok(_), Ok(PROTOCOL)) => Ok((fifo, path)),
            (Err(e), _) => {
                Err(ManagerError::UnsupportedProtocol { path: protocol, found: format!("nothing to read ({e})") })
            }
            _ => Err(ManagerError::UnsupportedProtocol { path: protocol, found: found.trim().to_owned() }),
        }
    }

    fn send(&self, record: &[u8]) -> Result<(), ManagerError> {
        let (mut fifo, path) = self.open()?;
        // Written in one piece or not at all, because it is shorter than what the kernel writes at once.
        match fifo.write(record) {
            Ok(written) if written == record.len() => Ok(()),
            Ok(_) => Err(ManagerError::Io { path, source: io::Error::other("a record was written in part") }),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(ManagerError::Full),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(ManagerError::NoManager(path)),
            Err(source) => Err(ManagerError::Io { path, source }),
        }
    }

    fn return_pipe(&self) -> Result<ReturnPipe, ManagerError> {
        for _ in 0..NAMES {
            let number = NEXT_RETURN_PIPE.fetch_add(1, Ordering::Relaxed);
            let path = self.workspace.join(format!("pipe{number}"));
            match nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(()) => return ReturnPipe::open(&self.workspace, path, number),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(ManagerError::Io { path, source: errno.into() }),
            }
        }
        let source = io::Error::other("no name is free for a return FIFO");
        Err(ManagerError::Io { path: self.workspace.clone(), source })
    }
}

/// Waits a moment for bytes.
fn wait(pipe: &File) {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let polled = poll(&mut polled, POLL).map(|_| polled[0].revents());
    // A FIFO whose other end is closed is always ready, without bytes.
    if polled.is_err() || polled == Ok(Some(PollFlags::POLLHUP)) {
        std::thread::sleep(Duration::from_millis(POLL.into()));
    }
}

/// A FIFO for one answer. Removed when dropped.
struct ReturnPipe {
    number: i32,
    path: PathBuf,
    file: File,
}

impl ReturnPipe {
    fn open(workspace: &Path, path: PathBuf, number: i32) -> Result<Self, ManagerError> {
        let open = || {
            // The manager runs as the client's user, who owns the workspace.
            if nix::unistd::geteuid().is_root() {
                let owner = fs::metadata(workspace)?;
                std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
            }
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)
        };
        match open() {
            Ok(file) => Ok(Self { number, path, file }),
            Err(source) => {
                let _ = fs::remove_file(&path);
                Err(ManagerError::Io { path, source })
            }
        }
    }
}

impl Drop for ReturnPipe {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(path = %self.path.display(), %error, "return FIFO not removed");
        }
    }
}

#[cfg(test)]
mod tests;
