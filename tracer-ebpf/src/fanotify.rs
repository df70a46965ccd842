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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bundles::path::RootPath;
use bundles::trace::Use;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use nix::sys::stat::{SFlag, fstat};
use nix::time::{ClockId, clock_gettime};

use crate::event::Event;
use crate::timeline::Timeline;
use crate::{Error, host};

/// How long the runtime may take to mount the container's root.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
/// How often the mount is looked for.
const MOUNT_PERIOD_MS: u8 = 2;

/// For the trace's `recorder`.
pub(crate) const HOOKS: &str = "fanotify/open fanotify/open_exec fanotify/access; not seen: open flags, mapping alone";

/// What the thread hands over.
pub(crate) struct Read {
    pub(crate) timeline: Timeline,
    /// Overflows of the queue; how much each lost is not known.
    pub(crate) lost: u64,
    pub(crate) unresolved: u64,
    /// The first exec, on the monotonic clock.
    pub(crate) began_ns: Option<u64>,
}

/// The thread that follows one container.
pub(crate) struct Reader {
    thread: JoinHandle<Result<Read, Error>>,
    stop: PipeWriter,
    files: Arc<AtomicUsize>,
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
    pub(crate) fn start(group: Fanotify, cgroup: &Path, max_files: usize) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let id = cgroup.file_name().unwrap_or_default().to_owned();
        let frozen = Frozen::new(cgroup)?;
        let (stopped, stop) = io::pipe().map_err(system("make a pipe"))?;
        let files = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&files);
        let run = move || {
            mark(&group, Path::new(&id), &stopped)?;
            drop(frozen);
            let id = id.to_string_lossy();
            follow(&group, &stopped, &id, max_files, &seen).map_err(system("read the fanotify queue"))
        };
        let thread = thread::Builder::new().name("tracer".into()).spawn(run).map_err(system("start its thread"))?;
        Ok(Self { thread, stop, files })
    }

    pub(crate) fn files(&self) -> usize {
        self.files.load(Ordering::Relaxed)
    }

    pub(crate) fn finish(self) -> Result<Read, Error> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| {
            Err(Error::System { what: "read the fanotify queue", source: io::Error::other("its thread panicked") })
        })
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
        if let Some(mount) = host::mounts()?.into_iter().rev().find(|m| m.kind == "overlay" && m.point.ends_with(&root))
        {
            break mount.point;
        }
        let stop = wait(&[stopped.as_fd()], MOUNT_PERIOD_MS.into());
        let stop = stop.map_err(|source| Error::System { what: "wait for the container's root", source })?;
        if stop || Instant::now() >= end {
            return Err(Error::NoOverlay(id.to_owned()));
        }
    };
    let mask = MaskFlags::FAN_OPEN | MaskFlags::FAN_OPEN_EXEC | MaskFlags::FAN_ACCESS;
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

fn follow(group: &Fanotify, stopped: &PipeReader, id: &str, max_files: usize, files: &AtomicUsize) -> io::Result<Read> {
    let mut read = Read { timeline: Timeline::new(max_files), lost: 0, unresolved: 0, began_ns: None };
    loop {
        let stop = wait(&[group.as_fd(), stopped.as_fd()], PollTimeout::NONE)?;
        loop {
            match group.read_events() {
                Ok(events) => events.iter().try_for_each(|event| read.add(event, id))?,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        files.store(read.timeline.files(), Ordering::Relaxed);
        if stop {
            return Ok(read);
        }
    }
}

impl Read {
    fn add(&mut self, event: &FanotifyEvent, id: &str) -> io::Result<()> {
        let Some(fd) = event.fd() else {
            self.lost += 1;
            return Ok(());
        };
        if is_foreign(event.pid(), id) {
            tracing::debug!(pid = event.pid(), "a process outside the container used its root");
            return Ok(());
        }
        let time_ns = now_ns()?;
        let exec = event.mask().contains(MaskFlags::FAN_OPEN_EXEC);
        if exec {
            self.began_ns.get_or_insert(time_ns);
        }
        let stat = fstat(fd)?;
        // Before the first exec it is the runtime that opens; a file without a name is none of the image.
        if self.began_ns.is_none() || SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
            return Ok(());
        }
        if stat.st_nlink == 0 {
            return Ok(());
        }
        match path(fd) {
            Some(path) => self.timeline.add(Event::Use {
                time_ns,
                process: event.pid().unsigned_abs(),
                path,
                size: u64::try_from(stat.st_size).unwrap_or_default(),
                open_flags: 0,
                how: if exec { Use::Exec } else { Use::Open },
            }),
            None => self.unresolved += 1,
        }
        Ok(())
    }
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

fn now_ns() -> io::Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
