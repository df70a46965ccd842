//! The recorder for kernels that refuse BPF: a fanotify mark on the superblock of the container's overlay.
//!
//! The mark sees the overlay in every mount namespace, but it needs the overlay, which the runtime mounts only when it
//! starts the container. So that nothing is missed in between:
//! 1. the container's cgroup, made beforehand, is frozen (cgroup v2);
//! 2. the runtime mounts the overlay and puts its first process into the cgroup, where it stops before it has done
//!    anything;
//! 3. the thread here finds the mount by the container's id, marks it and thaws the cgroup.
//!
//! Limit: on hosts with cgroup v2 alone runc and crun refuse a cgroup that is itself frozen ("container's cgroup
//! unexpectedly frozen"), though not one below a frozen one; there this recorder does not work yet. On hybrid hosts runc
//! looks at the version 1 freezer only.
//!
//! The record begins with the first exec from the overlay. What is not seen: flags of opens, uses without an open or
//! read (files mapped from a handed-in descriptor), what is mounted on the root; an ELF interpreter counts as executed.
//! Times are those of the reading of the queue.

use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bundles::path::RootPath;
use bundles::trace::{Cause, End, Losses, Phase, Process, Tail, Unseen, Use, WriteError};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use nix::sys::stat::{SFlag, fstat};

use crate::follower::Preface;
use crate::journal::{Journal, Output, Used};
use crate::{Error, clock, mounts};

/// How long the runtime may take to mount the container's root.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
/// How often the mount is looked for.
const MOUNT_PERIOD_MS: u8 = 2;

/// For the trace's `recorder`.
pub(crate) const HOOKS: &str = "fanotify/open fanotify/open_exec fanotify/access; not seen: open flags, mapping alone";
/// What it cannot see.
pub(crate) const UNSEEN: Unseen = Unseen::FLAGS.and(Unseen::RANGES).and(Unseen::SET_UP);

/// How long to wait for events before what was seen is written.
const TICK_MS: u16 = 1000;

/// The thread that follows one container.
pub(crate) struct Reader {
    thread: JoinHandle<Result<Record, Error>>,
    stop: PipeWriter,
    shared: Arc<Shared>,
}

/// What the thread and its owner tell each other.
#[derive(Default)]
struct Shared {
    files: AtomicUsize,
    /// When start-up was over, on the monotonic clock; 0: not yet.
    started_up_ns: AtomicU64,
}

/// What is recorded.
struct Record {
    wanted: Option<(Preface, Output)>,
    journal: Option<Journal>,
    /// The first exec, on the monotonic clock.
    began_ns: u64,
    losses: Losses,
}

/// A notification group without a mark; fails where the rights are missing.
pub(crate) fn group() -> Result<Fanotify, Error> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    let event_flags = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
    Fanotify::init(flags | InitFlags::FAN_UNLIMITED_QUEUE, event_flags | EventFFlags::O_NOATIME)
        .map_err(|errno| Error::Fanotify { what: "make a fanotify group", source: errno.into() })
}

impl Reader {
    /// Freezes `cgroup`, whose last name is the container's id, until the container's root is marked.
    pub(crate) fn start(cgroup: &Path, preface: Preface, out: Output) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let group = group()?;
        let id = cgroup.file_name().unwrap_or_default().to_owned();
        let frozen = Frozen::new(cgroup)?;
        let (stopped, stop) = io::pipe().map_err(system("make a pipe"))?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let run = move || {
            mark(&group, Path::new(&id), &stopped)?;
            drop(frozen);
            let record = Record { wanted: Some((preface, out)), journal: None, began_ns: 0, losses: Losses::default() };
            follow(&group, &stopped, &id.to_string_lossy(), record, &of_thread)
        };
        let thread = thread::Builder::new().name("tracer".into()).spawn(run).map_err(system("start its thread"))?;
        Ok(Self { thread, stop, shared })
    }

    pub(crate) fn files(&self) -> usize {
        self.shared.files.load(Ordering::Relaxed)
    }

    pub(crate) fn started_up(&self, time_ns: u64) {
        self.shared.started_up_ns.store(time_ns, Ordering::Relaxed);
    }

    /// Ends the recording and the trace.
    pub(crate) fn finish(self, end: End, cgroup: &Path) -> Result<(), Error> {
        drop(self.stop);
        let panicked =
            |_| Err(Error::System { what: "read the fanotify queue", source: io::Error::other("its thread panicked") });
        let record = self.thread.join().unwrap_or_else(panicked)?;
        let mut journal = record.journal.ok_or_else(|| Error::NothingRan(cgroup.into()))?;
        let at_us = |time_ns: u64| time_ns.saturating_sub(record.began_ns) / 1000;
        match self.shared.started_up_ns.load(Ordering::Relaxed) {
            0 => {}
            time_ns => journal.phase(Phase::Main, at_us(time_ns))?,
        }
        let lost = record.losses.with(Cause::NoRoom, journal.too_many);
        let left_out = journal.left_out.clone();
        Ok(journal.finish(&Tail { end, duration_us: at_us(clock::now_ns()), lost, left_out })?)
    }
}

/// A cgroup whose processes do not run. It is thawed when this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(cgroup: &Path) -> Result<Self, Error> {
        let path = cgroup.join("cgroup.freeze");
        fs::write(&path, "1").map_err(|source| Error::File {
            what: "freeze the cgroup by",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.0, "0") {
            tracing::warn!(file = %self.0.display(), %error, "cannot thaw the container's cgroup");
        }
    }
}

/// Waits until the runtime has mounted the root of the container `id`, and marks its file system.
fn mark(group: &Fanotify, id: &Path, stopped: &PipeReader) -> Result<(), Error> {
    let root = id.join("rootfs");
    let end = Instant::now() + MOUNT_LIMIT;
    let mount = loop {
        if let Some(mount) = mounts::own()?.into_iter().rev().find(|m| m.kind == "overlay" && m.point.ends_with(&root))
        {
            break mount.point;
        }
        let stop = wait(&[stopped.as_fd()], MOUNT_PERIOD_MS.into());
        let stop = stop.map_err(|source| Error::System { what: "wait for the container's root", source })?;
        if stop || Instant::now() >= end {
            return Err(Error::NoOverlay(id.to_owned()));
        }
    };
    let mask = MaskFlags::FAN_OPEN | MaskFlags::FAN_OPEN_EXEC | MaskFlags::FAN_ACCESS | MaskFlags::FAN_MODIFY;
    group
        .mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, mask, AT_FDCWD, Some(&mount))
        .map_err(|errno| Error::Fanotify { what: "mark the container's overlay", source: errno.into() })
}

/// Whether the last of `fds` has something, or an end.
fn wait(fds: &[BorrowedFd<'_>], timeout: PollTimeout) -> io::Result<bool> {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(fds.last().and_then(PollFd::revents).is_some_and(|events| !events.is_empty()))
}

fn follow(
    group: &Fanotify,
    stopped: &PipeReader,
    id: &str,
    mut record: Record,
    shared: &Shared,
) -> Result<Record, Error> {
    let failed = |source| Error::System { what: "read the fanotify queue", source };
    loop {
        let stop = wait(&[group.as_fd(), stopped.as_fd()], TICK_MS.into()).map_err(failed)?;
        loop {
            match group.read_events() {
                Ok(events) => events.iter().try_for_each(|event| record.add(event, id))?,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        if let Some(journal) = &mut record.journal {
            shared.files.store(journal.files(), Ordering::Relaxed);
            journal.flush_if_due()?;
        }
        if stop {
            return Ok(record);
        }
    }
}

impl Record {
    fn add(&mut self, event: &FanotifyEvent, id: &str) -> Result<(), Error> {
        let Some(fd) = event.fd() else {
            // The queue was full; how much it lost is not known.
            self.losses.add(Cause::NoRoom, 1);
            return Ok(());
        };
        if is_foreign(event.pid(), id) {
            tracing::debug!(pid = event.pid(), "a process outside the container used its root");
            return Ok(());
        }
        let now_ns = clock::now_ns();
        let exec = event.mask().contains(MaskFlags::FAN_OPEN_EXEC);
        if exec {
            self.begin(now_ns)?;
        }
        // Before the first exec it is the runtime that opens.
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let stat = fstat(fd).map_err(|errno| Error::System { what: "look at a file", source: errno.into() })?;
        // A file without a name is none of the image.
        if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG || stat.st_nlink == 0 {
            return Ok(());
        }
        let Some(path) = path(fd) else {
            self.losses.add(Cause::Unresolved, 1);
            return Ok(());
        };
        let used = Used {
            path,
            at_us: now_ns.saturating_sub(self.began_ns) / 1000,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            open_flags: 0,
            how: if exec { Use::Exec } else { Use::Open },
            written: event.mask().contains(MaskFlags::FAN_MODIFY),
            process: process(event.pid()),
        };
        Ok(journal.used(used, event.pid().unsigned_abs())?)
    }

    fn begin(&mut self, now_ns: u64) -> Result<(), WriteError> {
        let Some((mut preface, out)) = self.wanted.take() else { return Ok(()) };
        self.began_ns = now_ns;
        preface.head.clock = clock::at(now_ns);
        let mut journal = Journal::new(out, &preface.head, preface.max_files)?;
        journal.phase(Phase::StartUp, 0)?;
        self.journal = Some(journal);
        Ok(())
    }
}

/// What `/proc` still tells of a process: its name, and its numbers in the container.
fn process(pid: i32) -> Process {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let innermost = |numbers: &str| numbers.split_whitespace().next_back().and_then(|number| number.parse().ok());
    Process::new(innermost(field("NStgid:")).unwrap_or_default(), 0, field("Name:").as_bytes())
}

/// The path from the overlay's root: the descriptor is of no mount that this process sees.
fn path(fd: BorrowedFd<'_>) -> Option<RootPath> {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    RootPath::new(link.as_os_str().as_bytes()).ok()
}

/// Whether a process is known to be outside the container `id`. One that has ended cannot be asked; the overlay is
/// the container's own, so it is taken for the container's.
fn is_foreign(pid: i32, id: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroups| !cgroups.contains(id))
}
