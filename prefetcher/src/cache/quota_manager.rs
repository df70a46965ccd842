//! Telling the client's quota manager of objects that it did not fetch itself.
//!
//! The manager of a shared cache is a process that reads fixed records from the FIFO `cachemgr` in the workspace and
//! counts, evicts and pins. An object that it was not told of is served, but neither counted nor evicted. The records are
//! internal to the client and kept stable by its authors; the file `cachemgr.protocol` beside the FIFO holds their
//! revision. Any other revision than ours is refused, because a record that the manager does not know kills it, and then
//! the mount.
//!
//! Nothing here fails a prefetch: what could not be told is counted in [`counts`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bundles::object::{ContentHash, HashAlgorithm};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::Mode;
use tracing::{debug, warn};

/// The revision of the records that are written here.
pub const PROTOCOL: u32 = 2;
/// A longer record would not be written in one piece.
pub const MAX_RECORD: usize = 512;
/// Without the description.
const HEAD: usize = 48;
const INSERT: u32 = 1;
const STATUS: u32 = 10;
/// The client counts its own return FIFOs from 0.
const FIRST_RETURN_PIPE: i32 = 1 << 20;
/// How often a name for a return FIFO is looked for.
const NAMES: u32 = 16;
/// Milliseconds between two looks at the deadline.
const POLL: u8 = 1;

static NEXT_RETURN_PIPE: AtomicI32 = AtomicI32::new(FIRST_RETURN_PIPE);
static REGISTERED: AtomicU64 = AtomicU64::new(0);
static NO_MANAGER: AtomicU64 = AtomicU64::new(0);
static UNSUPPORTED_PROTOCOL: AtomicU64 = AtomicU64::new(0);
static PIPE_FULL: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// How many objects were registered since the start of the process, and how many were not, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// A record was written.
    pub registered: u64,
    /// Nobody reads the FIFO, or there is none.
    pub no_manager: u64,
    /// The manager speaks another revision.
    pub unsupported_protocol: u64,
    /// The manager does not keep up.
    pub pipe_full: u64,
    /// Anything else.
    pub failed: u64,
}

/// The counts now.
pub fn counts() -> Counts {
    let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Counts {
        registered: now(&REGISTERED),
        no_manager: now(&NO_MANAGER),
        unsupported_protocol: now(&UNSUPPORTED_PROTOCOL),
        pipe_full: now(&PIPE_FULL),
        failed: now(&FAILED),
    }
}

/// Why the manager was not told.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    /// Nobody reads the FIFO, or there is none.
    #[error("no quota manager listens at {0}")]
    NoManager(PathBuf),
    /// Records of another form.
    #[error("{path} holds {found:?}, this daemon speaks revision {PROTOCOL}; upgrade cvmfs-prefetch")]
    UnsupportedProtocol {
        /// The file with the revision.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// The FIFO has no room.
    #[error("the quota manager does not keep up with its FIFO")]
    Full,
    /// PrefetchSpec, and no answer.
    #[error("the quota manager did not answer within {} s", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// Anything else.
    #[error("{path}: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// What the manager counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes in the cache.
    pub used: u64,
    /// Of these, bytes that cannot be evicted now.
    pub pinned: u64,
}

/// The record that registers an object: a pure function of what it says.
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

/// The manager of one workspace.
#[derive(Debug)]
pub struct QuotaManager {
    workspace: PathBuf,
    /// The first refusal of a protocol is told, the others are only counted.
    told: AtomicBool,
    /// The end of a return FIFO over which an answer may still come: without a reader it would kill the manager.
    late: Mutex<Option<File>>,
}

impl QuotaManager {
    /// The one whose FIFO is in `workspace`, once it runs.
    pub fn in_workspace(workspace: &Path) -> Self {
        Self { workspace: workspace.to_owned(), told: AtomicBool::new(false), late: Mutex::new(None) }
    }

    /// Registers an object that is visible already. Never waits.
    pub fn insert(&self, hash: &ContentHash, raw_size: u64, description: &[u8]) {
        let untold = self.send(&insert_record(hash, raw_size, description)).err();
        let counter = match &untold {
            None => &REGISTERED,
            Some(Untold::NoManager(_)) => &NO_MANAGER,
            Some(Untold::UnsupportedProtocol { .. }) => &UNSUPPORTED_PROTOCOL,
            Some(Untold::Full) => &PIPE_FULL,
            Some(Untold::NoAnswer(_) | Untold::Failed { .. }) => &FAILED,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        match untold {
            Some(why @ Untold::UnsupportedProtocol { .. }) if !self.told.swap(true, Ordering::Relaxed) => {
                warn!(%why, "objects are written but not registered at the quota manager");
            }
            Some(why) => debug!(%why, %hash, "object not registered"),
            None => {}
        }
    }

    /// Asks what is in the cache. Waits for the answer until the deadline.
    pub fn status(&self, deadline: Duration) -> Result<Status, Untold> {
        self.reachable()?;
        let end = Instant::now() + deadline;
        let mut answer = self.return_pipe()?;
        self.send(&status_record(answer.number))?;
        let (mut bytes, mut filled) = ([0; 16], 0);
        while filled < bytes.len() {
            match answer.file.read(&mut bytes[filled..]) {
                Ok(read) if read > 0 => filled += read,
                // Nobody has opened the other end yet, or has not written.
                Ok(_) => wait(&answer.file),
                Err(e) if e.kind() == ErrorKind::WouldBlock => wait(&answer.file),
                Err(source) => return Err(Untold::Failed { path: answer.path.clone(), source }),
            }
            if filled < bytes.len() && Instant::now() > end {
                let kept = answer.file.try_clone().ok();
                // Its name goes first, so that the other end is not opened any more.
                drop(answer);
                *self.late.lock().unwrap_or_else(PoisonError::into_inner) = kept;
                return Err(Untold::NoAnswer(deadline));
            }
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Ok(Status { used: number(0), pinned: number(8) })
    }

    /// Whether there is a manager that listens and speaks our revision.
    pub fn reachable(&self) -> Result<(), Untold> {
        self.open().map(|_| ())
    }

    fn open(&self) -> Result<(File, PathBuf), Untold> {
        let path = self.workspace.join("cachemgr");
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let fifo = match OpenOptions::new().write(true).custom_flags(flags.bits()).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(Errno::ENXIO as i32) => {
                return Err(Untold::NoManager(path));
            }
            Err(source) => return Err(Untold::Failed { path, source }),
        };
        match fifo.metadata() {
            Ok(found) if found.file_type().is_fifo() => {}
            Ok(_) => return Err(Untold::Failed { path, source: io::Error::other("it is not a FIFO") }),
            Err(source) => return Err(Untold::Failed { path, source }),
        }
        // Read each time: a client that was upgraded has another manager.
        let protocol = self.workspace.join("cachemgr.protocol");
        let mut found = String::new();
        let read = File::open(&protocol).and_then(|file| file.take(32).read_to_string(&mut found));
        match (read, found.trim().parse()) {
            (Ok(_), Ok(PROTOCOL)) => Ok((fifo, path)),
            (Err(e), _) => Err(Untold::UnsupportedProtocol { path: protocol, found: format!("nothing to read ({e})") }),
            _ => Err(Untold::UnsupportedProtocol { path: protocol, found: found.trim().to_owned() }),
        }
    }

    fn send(&self, record: &[u8]) -> Result<(), Untold> {
        let (mut fifo, path) = self.open()?;
        // One piece or nothing: it is shorter than what the kernel writes at once.
        match fifo.write(record) {
            Ok(written) if written == record.len() => Ok(()),
            Ok(_) => Err(Untold::Failed { path, source: io::Error::other("a record was written in part") }),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(Untold::Full),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Untold::NoManager(path)),
            Err(source) => Err(Untold::Failed { path, source }),
        }
    }

    fn return_pipe(&self) -> Result<ReturnPipe, Untold> {
        for _ in 0..NAMES {
            let number = NEXT_RETURN_PIPE.fetch_add(1, Ordering::Relaxed);
            let path = self.workspace.join(format!("pipe{number}"));
            match nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(()) => return ReturnPipe::open(&self.workspace, path, number),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Untold::Failed { path, source: errno.into() }),
            }
        }
        let source = io::Error::other("no name is free for a return FIFO");
        Err(Untold::Failed { path: self.workspace.clone(), source })
    }
}

/// Waits for bytes, a little.
fn wait(pipe: &File) {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let polled = poll(&mut polled, POLL).map(|_| polled[0].revents());
    // Closed at its other end it is always ready, with nothing in it.
    if polled.is_err() || polled == Ok(Some(PollFlags::POLLHUP)) {
        std::thread::sleep(Duration::from_millis(POLL.into()));
    }
}

/// A FIFO for one answer, removed when dropped.
struct ReturnPipe {
    number: i32,
    path: PathBuf,
    file: File,
}

impl ReturnPipe {
    fn open(workspace: &Path, path: PathBuf, number: i32) -> Result<Self, Untold> {
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
                Err(Untold::Failed { path, source })
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
