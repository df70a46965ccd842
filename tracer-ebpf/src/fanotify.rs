//! The recorder for kernels that refuse BPF: a fanotify mark on the superblock of the container's overlay.
//!
//! The mark sees the overlay in every mount namespace, but it needs the overlay, which the runtime mounts only when it
//! starts the container. So that nothing is missed in between:
//! 1. the cgroup above the container's is frozen (`freezer.rs`);
//! 2. the runtime mounts the overlay and puts its first process into the container's cgroup, where it stops before it has
//!    done anything;
//! 3. the thread here finds the mount by the container's id, marks it and thaws the cgroup.
//!
//! The record begins with the first exec from the overlay. What is not seen: flags of opens, uses without an open or
//! read (files mapped from a handed-in descriptor), what is mounted on the root; an ELF interpreter counts as executed.
//! Times are those of the reading of the queue.

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
use crate::follower::Preface;
use crate::freezer::Freezer;
use crate::journal::{Journal, Output, Used};
use crate::{Error, clock, mounts};

/// How long the runtime may take to mount the container's root.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
/// How often the mount is looked for.
const MOUNT_PERIOD_MS: u8 = 2;

/// For the trace's `recorder`.
pub(crate) const HOOKS: &str = "fanotify/open fanotify/open_exec fanotify/access; not seen: open flags, mapping alone";
/// What it cannot see.
pub(crate) const UNSEEN: BlindSpots = BlindSpots::FLAGS.and(BlindSpots::RANGES).and(BlindSpots::SET_UP);

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
    /// Freezes what is in the cgroup above `cgroup`, whose last name is the container's id, until the container's root is
    /// marked.
    pub(crate) fn start(freezer: &Freezer, cgroup: &Path, preface: Preface, out: Output) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let group = group()?;
        let id = cgroup.file_name().unwrap_or_default().to_owned();
        let frozen = freezer.freeze_above(cgroup)?;
        let (stopped, stop) = io::pipe().map_err(system("make a pipe"))?;
        let shared = Arc::new(Shared::default());
        let (of_thread, of_container) = (Arc::clone(&shared), cgroup.to_owned());
        let run = move || {
            mark(&group, &of_container, &stopped)?;
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

    /// Whether it ended by itself; [`Reader::finish`] tells why.
    pub(crate) fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the recording without its trace. Nothing is frozen any more when this returns.
    pub(crate) fn give_up(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::warn!("the thread of a recording that was given up panicked");
        }
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
        let losses = record.losses.with(LossCause::BufferFull, journal.too_many);
        let excluded = journal.excluded.clone();
        Ok(journal.finish(&Tail { end, duration_us: at_us(clock::now_ns()), losses, excluded })?)
    }
}

/// Waits until the runtime has mounted the root of the container in `cgroup`, and marks its file system.
fn mark(group: &Fanotify, cgroup: &Path, stopped: &PipeReader) -> Result<(), Error> {
    let id = Path::new(cgroup.file_name().unwrap_or_default());
    let root = id.join("rootfs");
    let end = Instant::now() + MOUNT_LIMIT;
    let mount = loop {
        // The runtime mounts first; where the first process has come without a mount, none will come.
        let last_look = is_populated(cgroup).unwrap_or(false) || Instant::now() >= end;
        if let Some(mount) = mounts::own()?.into_iter().rev().find(|m| m.kind == "overlay" && m.point.ends_with(&root))
        {
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
            self.losses.add(LossCause::Unresolved, 1);
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
    // In this order: of one that is ending, the version 1 hierarchies are told to be their roots.
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroups| !cgroups.contains(id)) && !is_ending(pid)
}

/// Whether a process ends or has ended.
fn is_ending(pid: i32) -> bool {
    /// The kernel's `PF_EXITING`.
    const EXITING: u32 = 4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may contain anything: state, parent, group, session, terminal, its group, flags.
    let flags = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(6)?.parse::<u32>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}
