//! The recorder's life: load, follow containers, stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bundles::image::ImageId;
use bundles::trace::{Cause, Clock, End, Head, LeftOutReason, Losses, Tail, Unseen};

use crate::cgroup::{self, Hierarchy, Version};
use crate::follower::{Follower, Preface, content_id};
use crate::freezer::Freezer;
use crate::journal::{Journal, Output};
use crate::places::Places;
use crate::program::{Counters, Kernel, page_shift};
use crate::reader::{NewCgroup, Reader};
use crate::{Error, clock, fanotify, mounts, pages};

/// What to record, and sizes. The defaults are right for a container of any size that was seen so far.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of the ring buffer between kernel and recorder: a power of two, and at least a page.
    pub ring_bytes: u32,
    /// Entries of the kernel's table of used pages: 64 pages of a file each.
    pub pieces: u32,
    /// Files that are taken; more are counted as lost.
    pub max_files: usize,
    /// Tells paths that were looked for and do not exist.
    pub absent: bool,
    /// Tells directories that were listed.
    pub directories: bool,
    /// Can watch for new containers, see [`Recorder::watch`].
    pub watch: bool,
    /// Tells containers apart by this kind of cgroups, in place of the host's best.
    pub cgroups: Option<Version>,
    /// Uses only what every kernel has. For tests.
    #[doc(hidden)]
    pub plainest: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            pieces: 1 << 17,
            max_files: 1 << 20,
            absent: false,
            directories: false,
            watch: false,
            cgroups: None,
            plainest: false,
        }
    }
}

/// Which container to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One that is still to start, in this cgroup directory, which must be there before it; see
    /// [`crate::cgroup::Cgroup`]. With fanotify all of the cgroup above it is frozen until the container's root is there, so
    /// that one should hold nothing but the container's pod.
    New(PathBuf),
    /// One that runs already. What it did before is not seen, and the trace says so.
    Running(PathBuf),
}

/// What the trace is told about the container.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its image.
    pub image: ImageId,
    /// Its program and arguments, if they are to be in the trace.
    pub command: Vec<String>,
    /// What kind of work it shows; empty if nobody said.
    pub profile: String,
}

/// By which means the kernel is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// BPF, and where it does not work fanotify, with a warning that says why.
    #[default]
    Auto,
    /// BPF. Needs a kernel with BTF, and root.
    Bpf,
    /// fanotify on the container's overlay. Needs root. Sees less, see `fanotify.rs`; the trace says so.
    Fanotify,
}

/// A recorder, accepted by the kernel. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    options: Options,
    hierarchy: Hierarchy,
    means: Means,
}

#[derive(Clone)]
enum Means {
    Bpf(Arc<Reader>),
    Fanotify(Freezer),
}

/// A recording that runs. Dropped without [`Recording::stop`], it leaves nothing behind in the kernel, and a trace
/// without its end.
pub struct Recording {
    cgroup: PathBuf,
    /// None once it was stopped.
    running: Option<Running>,
}

enum Running {
    Bpf { reader: Arc<Reader>, target: u64 },
    Fanotify(fanotify::Reader),
}

/// A container that is about to begin, seen by [`Recorder::watch`]. It is followed already; dismiss it or record it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    target: u64,
    /// The path of its cgroup in the hierarchy, which ends in the container's id.
    pub cgroup: PathBuf,
}

impl Recorder {
    /// Loads the kernel part. Takes some 100 ms, so do it before the container starts.
    pub fn load(options: Options) -> Result<Self, Error> {
        let hierarchy = Hierarchy::of_host(&options)?;
        let (kernel, events) = Kernel::load(&options, &hierarchy)?;
        let reader = Reader::start(kernel, events, hierarchy.point.clone())?;
        Ok(Self { options, hierarchy, means: Means::Bpf(Arc::new(reader)) })
    }

    /// Makes ready what `backend` asks for.
    pub fn load_backend(backend: Backend, options: Options) -> Result<Self, Error> {
        let fanotify = |options: Options| {
            // Fails here rather than later.
            fanotify::group()?;
            let hierarchy = Hierarchy::of_host(&options)?;
            let freezer = Freezer::of_host(&hierarchy)?;
            Ok(Self { options, hierarchy, means: Means::Fanotify(freezer) })
        };
        match backend {
            Backend::Bpf => Self::load(options),
            Backend::Fanotify => fanotify(options),
            Backend::Auto => Self::load(options.clone()).or_else(|error| {
                tracing::warn!("BPF cannot be used, so fanotify is, which sees less: {error}");
                fanotify(options)
            }),
        }
    }

    /// The hierarchy of cgroups by which it tells containers apart.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Starts to record a container into `out`.
    pub fn follow(&self, target: &Target, subject: Subject, out: Output) -> Result<Recording, Error> {
        let (Target::New(cgroup) | Target::Running(cgroup)) = target;
        let cgroup = cgroup.clone();
        let running = match (&self.means, target) {
            (Means::Bpf(reader), Target::New(_)) => {
                let id = cgroup::id(&cgroup)?;
                let mut shared = reader.shared();
                let mut follower = Follower::new(cgroup.clone());
                follower.want(self.preface(subject, shared.kernel.hooks(), shared.kernel.unseen()), out);
                // The follower first: no event may come before it.
                shared.followers.insert(id, follower);
                shared.kernel.follow_new(id)?;
                Running::Bpf { reader: Arc::clone(reader), target: id }
            }
            (Means::Bpf(reader), Target::Running(_)) => {
                let id = cgroup::id(&cgroup)?;
                let places = running_places(&cgroup)?;
                let mut shared = reader.shared();
                let now_ns = clock::now_ns();
                let device = places.root_device();
                let mut follower = Follower::running(cgroup.clone(), places, now_ns);
                let unseen = shared.kernel.unseen().and(Unseen::START).and(Unseen::SET_UP);
                follower.want(self.preface(subject, shared.kernel.hooks(), unseen), out);
                shared.followers.insert(id, follower);
                shared.kernel.follow_running(id, now_ns, device)?;
                Running::Bpf { reader: Arc::clone(reader), target: id }
            }
            (Means::Fanotify(freezer), Target::New(_)) => {
                let preface = self.preface(subject, fanotify::HOOKS.into(), fanotify::UNSEEN);
                Running::Fanotify(fanotify::Reader::start(freezer, &cgroup, preface, out)?)
            }
            (Means::Fanotify(_), Target::Running(_)) => return Err(Error::OnlyNew),
        };
        Ok(Recording { cgroup, running: Some(running) })
    }

    /// Follows every container of the host that begins from now on, before its first process. Needs [`Options::watch`].
    pub fn watch(&self) -> Result<Watch, Error> {
        let Means::Bpf(reader) = &self.means else { return Err(Error::OnlyNew) };
        let (sender, newcomers) = channel();
        let mut shared = reader.shared();
        shared.watcher = Some(sender);
        shared.kernel.watch()?;
        Ok(Watch(newcomers))
    }

    /// Records a newcomer into `out`, from before its first exec.
    pub fn adopt(&self, newcomer: &Newcomer, subject: Subject, out: Output) -> Result<Recording, Error> {
        let Means::Bpf(reader) = &self.means else { return Err(Error::OnlyNew) };
        let cgroup = self.hierarchy.directory(&newcomer.cgroup);
        let mut shared = reader.shared();
        let preface = self.preface(subject, shared.kernel.hooks(), shared.kernel.unseen());
        let follower = shared.followers.get_mut(&newcomer.target).ok_or_else(|| Error::NotRunning(cgroup.clone()))?;
        follower.want(preface, out);
        Ok(Recording { cgroup, running: Some(Running::Bpf { reader: Arc::clone(reader), target: newcomer.target }) })
    }

    /// Forgets a newcomer.
    pub fn dismiss(&self, newcomer: &Newcomer) {
        if let Means::Bpf(reader) = &self.means {
            reader.shared().forget(newcomer.target);
        }
    }

    fn preface(&self, subject: Subject, hooks: String, unseen: Unseen) -> Preface {
        let head = Head {
            image: subject.image,
            clock: Clock::default(),
            recorder: name(&hooks, self.hierarchy.version),
            unseen,
            command: subject.command,
            profile: subject.profile,
        };
        Preface { head, max_files: self.options.max_files, page_shift: page_shift() }
    }
}

/// The newcomers of a host, as they come.
pub struct Watch(Receiver<NewCgroup>);

impl Watch {
    /// The next one; none if there was none within `limit`.
    pub fn next(&self, limit: Duration) -> Option<Newcomer> {
        let NewCgroup { target, path } = self.0.recv_timeout(limit).ok()?;
        Some(Newcomer { target, cgroup: path })
    }
}

impl Recording {
    /// Whether the container's first exec has been seen.
    pub fn has_begun(&self) -> bool {
        match &self.running {
            Some(Running::Bpf { reader, target }) => {
                let mut shared = reader.shared();
                shared.drain();
                shared.followers.get(target).is_some_and(|follower| !follower.is_setting_up())
            }
            Some(Running::Fanotify(reader)) => reader.files() > 0,
            None => false,
        }
    }

    /// How many different files were used so far. Costs the container nothing; may be some 20 ms old.
    pub fn files_seen(&self) -> usize {
        match &self.running {
            Some(Running::Bpf { reader, target }) => reader.shared().followers.get(target).map_or(0, Follower::files),
            Some(Running::Fanotify(reader)) => reader.files(),
            None => 0,
        }
    }

    /// Whether it has ended by itself because something went wrong; [`Recording::stop`] tells what.
    pub fn has_failed(&self) -> bool {
        matches!(&self.running, Some(Running::Fanotify(reader)) if reader.has_failed())
    }

    /// Marks that the container had started up by `ago` before now; what comes after is its main run.
    pub fn started_up(&self, ago: Duration) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        let time_ns = clock::now_ns().saturating_sub(ago);
        match &self.running {
            Some(Running::Bpf { reader, target }) => {
                if let Some(follower) = reader.shared().followers.get_mut(target) {
                    follower.started_up(time_ns);
                }
            }
            Some(Running::Fanotify(reader)) => reader.started_up(time_ns),
            None => {}
        }
    }

    /// Ends the recording and the trace. Blocks for some milliseconds, more after much was read.
    pub fn stop(mut self, end: End) -> Result<(), Error> {
        match self.running.take() {
            Some(Running::Fanotify(reader)) => reader.finish(end, &self.cgroup),
            Some(Running::Bpf { reader, target }) => finish(&reader, target, end, &self.cgroup),
            None => Ok(()),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        match self.running.take() {
            Some(Running::Bpf { reader, target }) => reader.shared().forget(target),
            Some(Running::Fanotify(reader)) => reader.give_up(),
            None => {}
        }
    }
}

fn finish(reader: &Reader, target: u64, end: End, cgroup: &Path) -> Result<(), Error> {
    let now_ns = clock::now_ns();
    let mut shared = reader.shared();
    // Before the target is gone: it may tell what the ring does not.
    shared.drain();
    let counters = shared.kernel.leave(target)?;
    shared.drain();
    let pieces = shared.kernel.take_pieces(target)?;
    let unread = shared.malformed + shared.kernel.missed();
    let follower = shared.followers.remove(&target);
    drop(shared);
    let nothing = || Error::NothingRan(cgroup.into());
    let follower = follower.ok_or_else(nothing)?;
    let duration_us = follower.at_us(now_ns);
    let (mut journal, losses) = follower.close()?.ok_or_else(nothing)?;
    for (inode, ranges) in pages::ranges(pieces, page_shift()) {
        journal.ranges(content_id(inode), &ranges)?;
    }
    journal.left_out.add(LeftOutReason::OtherFileSystem, counters.elsewhere);
    let lost = counted(losses, &counters, &journal).with(Cause::NoRoom, unread);
    let left_out = journal.left_out.clone();
    Ok(journal.finish(&Tail { end, duration_us, lost, left_out })?)
}

fn counted(losses: Losses, counters: &Counters, journal: &Journal) -> Losses {
    if counters.unlinked > 0 {
        tracing::debug!(files = counters.unlinked, "files without a name were left out");
    }
    losses
        .with(Cause::NoRoom, counters.lost + journal.too_many)
        .with(Cause::Unresolved, counters.unresolved)
        .with(Cause::TooDeep, counters.too_deep)
        .with(Cause::TableFull, counters.table_full)
}

/// The mounts of a container that runs.
fn running_places(cgroup: &Path) -> Result<Places, Error> {
    let host = mounts::own()?;
    let not_running = || Error::NotRunning(cgroup.into());
    let places = Follower::new(cgroup.into()).container_mounts().and_then(|mounts| Places::new(mounts, &host));
    places.ok_or_else(not_running)
}

/// Which recorder this is, by which means, on which kernel.
fn name(hooks: &str, version: Version) -> String {
    let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let kernel = kernel.unwrap_or_else(|_| "unknown".into());
    let cgroups = match version {
        Version::One => "cgroup v1 pids",
        Version::Two => "cgroup v2",
    };
    format!("tracer {} ({hooks}; {cgroups}; Linux {kernel})", env!("CARGO_PKG_VERSION"))
}
