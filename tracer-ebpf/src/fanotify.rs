//! The backend for kernels that refuse BPF: a fanotify mark on the superblock of the container's overlay.
//!
//! The mark reports uses of the overlay in every mount namespace. But the runtime mounts the overlay only when it starts the
//! container, so nothing must run between the mount and the mark:
//! 1. the recorder freezes the cgroup above the container's (`freezer.rs`);
//! 2. the runtime mounts the overlay and puts its first process into the container's cgroup, where it is frozen before it
//!    does anything;
//! 3. the thread started here finds the mount by the container's id, marks it and thaws the cgroup.
//!
//! The trace begins with the first exec from the overlay. Not seen: flags of opens; files that are neither opened nor read
//! by the container (mapped from a descriptor that another process passed in); file systems mounted below the root. An ELF
//! interpreter counts as executed. Times are those at which the queue is read.

use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bundles::path::RootPath;
use bundles::phase::Phase;
use bundles::trace::{BlindSpots, End, LossCause, Losses, Process, Tail, Use, WriteError};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use nix::sys::stat::{SFlag, fstat};

use crate::cgroup::is_populated;
use crate::container::TraceSettings;
use crate::freezer::Freezer;
use crate::journal::{Journal, Output, PathUse};
use crate::{Error, clock, mounts};

/// How long to wait for the runtime to mount the container's root.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between two looks for the mount.
const MOUNT_PERIOD_MS: u8 = 2;

/// For the trace's `recorder`.
pub(crate) const HOOKS: &str = "fanotify/open fanotify/open_exec fanotify/access; not seen: open flags, mapping alone";
/// What this backend cannot see.
pub(crate) const UNSEEN: BlindSpots = BlindSpots::FLAGS.and(BlindSpots::RANGES).and(BlindSpots::SET_UP);

/// How long to wait for events before the trace is flushed.
const TICK_MS: u16 = 1000;

/// The recording of one container: a thread that reads its notification group.
pub(crate) struct Session {
    thread: JoinHandle<Result<TraceState, Error>>,
    stop: PipeWriter,
    shared: Arc<Shared>,
}

/// Shared between the thread and the [`Session`].
#[derive(Default)]
struct Shared {
    /// Files used so far.
    files: AtomicUsize,
    /// The end of the start-up phase on the monotonic clock; 0: not yet.
    started_up_ns: AtomicU64,
}

/// What the thread has recorded.
struct TraceState {
    /// The trace to open at the first exec.
    requested_trace: Option<(TraceSettings, Output)>,
    journal: Option<Journal>,
    /// On the monotonic clock; 0: not yet.
    first_exec_ns: u64,
    losses: Losses,
}

/// Creates a notification group without a mark. Fails without the necessary privileges.
pub(crate) fn group() -> Result<Fanotify, Error> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    let event_flags = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
    Fanotify::init(flags | InitFlags::FAN_UNLIMITED_QUEUE, event_flags | EventFFlags::O_NOATIME)
        .map_err(|errno| Error::Fanotify { what: "create a fanotify group", source: errno.into() })
}

impl Session {
    /// Freezes the cgroup above `cgroup`, whose last component is the container's id, until the container's root is marked.
    pub(crate) fn start(freezer: &Freezer, cgroup: &Path, settings: TraceSettings, out: Output) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let group = group()?;
        let id = cgroup.file_name().unwrap_or_default().to_owned();
        let frozen = freezer.freeze_above(cgroup)?;
        let (stopped, stop) = io::pipe().map_err(system("create a pipe"))?;
        let shared = Arc::new(Shared::default());
        let thread_shared = Arc::clone(&shared);
        let cgroup = cgroup.to_owned();
        let run = move || {
            mark(&group, &cgroup, &stopped)?;
            drop(frozen);
            let requested_trace = Some((settings, out));
            let state = TraceState { requested_trace, journal: None, first_exec_ns: 0, losses: Losses::default() };
            follow(&group, &stopped, &id.to_string_lossy(), state, &thread_shared)
        };
        let thread = thread::Builder::new().name("recorder".into()).spawn(run).map_err(system("start its thread"))?;
        Ok(Self { thread, stop, shared })
    }

    /// The number of different files used so far.
    pub(crate) fn files(&self) -> usize {
        self.shared.files.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_started_up(&self, time_ns: u64) {
        self.shared.started_up_ns.store(time_ns, Ordering::Relaxed);
    }

    /// Whether the thread has ended because of an error, which [`Session::finish`] returns.
    pub(crate) fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the recording without finishing its trace. When this returns, nothing is frozen any more.
    pub(crate) fn abandon(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::warn!("the thread of an abandoned recording panicked");
        }
    }

    /// Ends the recording and finishes the trace.
    pub(crate) fn finish(self, end: End, cgroup: &Path) -> Result<(), Error> {
        drop(self.stop);
        let panicked =
            |_| Err(Error::System { what: "read the fanotify queue", source: io::Error::other("its thread panicked") });
        let state = self.thread.join().unwrap_or_else(panicked)?;
        let mut journal = state.journal.ok_or_else(|| Error::NothingRecorded(cgroup.into()))?;
        let at_us = |time_ns: u64| time_ns.saturating_sub(state.first_exec_ns) / 1000;
        let started_up_ns = self.shared.started_up_ns.load(Ordering::Relaxed);
        if started_up_ns != 0 {
            journal.phase(Phase::Main, at_us(started_up_ns))?;
        }
        let losses = state.losses.with(LossCause::BufferFull, journal.files_over_limit);
        let excluded = journal.excluded.clone();
        Ok(journal.finish(&Tail { end, duration_us: at_us(clock::now_ns()), losses, excluded })?)
    }
}

/// Waits until the runtime has mounted the root of the container in `cgroup`, and marks its file system.
fn mark(group: &Fanotify, cgroup: &Path, stopped: &PipeReader) -> Result<(), Error> {
    let id = Path::new(cgroup.file_name().unwrap_or_default());
    let root = id.join("rootfs");
    let end = Instant::now() + MOUNT_TIMEOUT;
    let mount = loop {
        // The runtime mounts before it starts the first process, so look once more and give up when there is a process.
        let last_look = is_populated(cgroup).unwrap_or(false) || Instant::now() >= end;
        let mut mounts = mounts::own_mounts()?.into_iter().rev();
        if let Some(mount) = mounts.find(|mount| mount.kind == "overlay" && mount.point.ends_with(&root)) {
            break mount.point;
        }
        let stop = wait(&[stopped.as_fd()], MOUNT_PERIOD_MS.into());
        let stop = stop.map_err(|source| Error::System { what: "wait for the container's root", source })?;
        if stop || last_look {
            return Err(Error::NoOverlay(id.to_owned()));
        }
    };
    let mask = MaskFlags::FAN_OPEN | MaskFlags::FAN_OPEN_EXEC | MaskFlags::FAN_ACCESS | MaskFlags::FAN_MODIFY;
    group
        .mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM, mask, AT_FDCWD, Some(&mount))
        .map_err(|errno| Error::Fanotify { what: "mark the container's overlay", source: errno.into() })
}

/// Waits until one of `fds` is readable. Returns whether the last one is readable or closed.
fn wait(fds: &[BorrowedFd<'_>], timeout: PollTimeout) -> io::Result<bool> {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(fds.last().and_then(PollFd::revents).is_some_and(|events| !events.is_empty()))
}

/// Records the events of the group until `stopped` is closed.
fn follow(
    group: &Fanotify,
    stopped: &PipeReader,
    id: &str,
    mut state: TraceState,
    shared: &Shared,
) -> Result<TraceState, Error> {
    let failed = |source| Error::System { what: "read the fanotify queue", source };
    loop {
        let stop = wait(&[group.as_fd(), stopped.as_fd()], TICK_MS.into()).map_err(failed)?;
        loop {
            match group.read_events() {
                Ok(events) => events.iter().try_for_each(|event| state.add(event, id))?,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        if let Some(journal) = &mut state.journal {
            shared.files.store(journal.files(), Ordering::Relaxed);
            journal.flush_if_due()?;
        }
        if stop {
            return Ok(state);
        }
    }
}

impl TraceState {
    fn add(&mut self, event: &FanotifyEvent, id: &str) -> Result<(), Error> {
        let Some(fd) = event.fd() else {
            // The queue overflowed. The number of lost events is unknown.
            self.losses.add(LossCause::BufferFull, 1);
            return Ok(());
        };
        if is_foreign(event.pid(), id) {
            tracing::debug!(pid = event.pid(), "a process outside the container used its root");
            return Ok(());
        }
        let now_ns = clock::now_ns();
        let exec = event.mask().contains(MaskFlags::FAN_OPEN_EXEC);
        if exec {
            self.open_trace(now_ns)?;
        }
        // Before the first exec only the runtime uses files.
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let stat = fstat(fd).map_err(|errno| Error::System { what: "stat a file", source: errno.into() })?;
        // Unlinked files are not part of an image.
        if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG || stat.st_nlink == 0 {
            return Ok(());
        }
        let Some(path) = path(fd) else {
            self.losses.add(LossCause::Unresolved, 1);
            return Ok(());
        };
        let path_use = PathUse {
            path,
            at_us: now_ns.saturating_sub(self.first_exec_ns) / 1000,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            open_flags: 0,
            how: if exec { Use::Exec } else { Use::Open },
            written: event.mask().contains(MaskFlags::FAN_MODIFY),
            process: process(event.pid()),
        };
        Ok(journal.add_use(path_use, event.pid().unsigned_abs())?)
    }

    /// Opens the trace at the container's first exec.
    fn open_trace(&mut self, now_ns: u64) -> Result<(), WriteError> {
        let Some((mut settings, out)) = self.requested_trace.take() else { return Ok(()) };
        self.first_exec_ns = now_ns;
        settings.head.clock = clock::trace_clock(now_ns);
        let mut journal = Journal::new(out, &settings.head, settings.max_files)?;
        journal.phase(Phase::StartUp, 0)?;
        self.journal = Some(journal);
        Ok(())
    }
}

/// A process's name and its pid in the container, empty if it has ended.
fn process(pid: i32) -> Process {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let innermost = |numbers: &str| numbers.split_whitespace().next_back().and_then(|number| number.parse().ok());
    Process::new(innermost(field("NStgid:")).unwrap_or_default(), 0, field("Name:").as_bytes())
}

/// The path relative to the overlay's root: the descriptor's mount is outside this process's namespace, so the link in `/proc`
/// has no mount point.
fn path(fd: BorrowedFd<'_>) -> Option<RootPath> {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    RootPath::new(link.as_os_str().as_bytes()).ok()
}

/// Whether a process is known to be outside the container `id`. A process that has ended counts as the container's, because
/// the overlay is the container's own.
fn is_foreign(pid: i32, id: &str) -> bool {
    // Checked in this order: the kernel shows the root of the v1 hierarchies for a process that is ending.
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroups| !cgroups.contains(id)) && !is_ending(pid)
}

/// Whether a process has ended or is ending.
fn is_ending(pid: i32) -> bool {
    /// The kernel's `PF_EXITING`.
    const EXITING: u32 = 4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may contain any character: state, parent, group, session, terminal, its group, flags.
    let flags = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(6)?.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}
