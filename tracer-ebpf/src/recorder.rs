//! The recorder's life: load, follow one container, stop.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bundles::image::ImageId;
use bundles::trace::{Cause, Clock, End, FileUse, Losses, Trace, Unseen};
use nix::sys::fanotify::Fanotify;
use nix::time::{ClockId, clock_gettime};

use crate::program::{self, Attached, Loaded, Maps};
use crate::reader::Reader;
use crate::{Error, fanotify};

/// Sizes. The defaults are right for a container of any size that was seen so far.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of the ring buffer between kernel and recorder: a power of two, and at least a page.
    pub ring_bytes: u32,
    /// Files that are taken; more are counted as lost.
    pub max_files: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ring_bytes: 8 << 20, max_files: 1 << 20 }
    }
}

/// Which container to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The processes of a cgroup v2 directory and of those below it. It must be there before the container starts,
    /// see [`crate::cgroup::Cgroup`].
    Cgroup(PathBuf),
}

/// By which means the kernel is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// BPF, and where it does not work fanotify, with a warning that says why.
    #[default]
    Auto,
    /// BPF. Needs Linux 5.17 with BTF, and root.
    Bpf,
    /// fanotify on the container's overlay. Needs root. Sees less, see `fanotify.rs`; the trace says so.
    Fanotify,
}

/// What is needed to record, accepted by the kernel and not attached yet.
pub struct Recorder {
    options: Options,
    ready: Ready,
}

enum Ready {
    Bpf(Box<Loaded>),
    Fanotify(Fanotify),
}

/// A recording that runs. Dropped without [`Recording::stop`], it leaves nothing behind in the kernel.
pub struct Recording {
    target: PathBuf,
    running: Running,
}

enum Running {
    Bpf { attached: Box<Attached>, maps: Box<Maps>, reader: Reader },
    Fanotify(fanotify::Reader),
}

/// What was recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Regular files of the container's root, in order of first use, each once.
    pub files: Vec<FileUse>,
    /// Events that were lost; any makes the record incomplete.
    pub lost: u64,
    /// Files whose path could not be told; any makes the record incomplete.
    pub unresolved: u64,
    /// When the first exec was seen.
    pub started: SystemTime,
    /// From the first exec to the end.
    pub duration: Duration,
    /// Why it ended.
    pub end: End,
    /// Which recorder made it, by which means and on which kernel.
    pub recorder: String,
    /// What it cannot see.
    pub unseen: Unseen,
}

impl Recorder {
    /// Loads with the default sizes.
    pub fn load() -> Result<Self, Error> {
        Self::load_with(Options::default())
    }

    /// Loads the kernel part. Takes some 100 ms, so do it before the container starts.
    pub fn load_with(options: Options) -> Result<Self, Error> {
        Ok(Self { ready: Ready::Bpf(Box::new(program::load(options.ring_bytes)?)), options })
    }

    /// Makes ready what `backend` asks for, with the default sizes.
    pub fn load_backend(backend: Backend) -> Result<Self, Error> {
        let fanotify = || Ok(Self { ready: Ready::Fanotify(fanotify::group()?), options: Options::default() });
        match backend {
            Backend::Bpf => Self::load(),
            Backend::Fanotify => fanotify(),
            Backend::Auto => Self::load().or_else(|error| {
                tracing::warn!("BPF cannot be used, so fanotify is, which sees less: {error}");
                fanotify()
            }),
        }
    }

    /// Starts to record. The record begins with the target's first exec in a root file system of its own.
    pub fn follow(self, target: Target) -> Result<Recording, Error> {
        let Target::Cgroup(target) = target;
        let max_files = self.options.max_files;
        let running = match self.ready {
            Ready::Bpf(loaded) => {
                let (attached, events, maps) = loaded.attach(&target)?;
                let reader = Reader::start(events, max_files)?;
                Running::Bpf { attached: Box::new(attached), maps: Box::new(maps), reader }
            }
            Ready::Fanotify(group) => Running::Fanotify(fanotify::Reader::start(group, &target, max_files)?),
        };
        Ok(Recording { target, running })
    }
}

impl Recording {
    /// Whether the container's first exec has been seen.
    pub fn has_begun(&self) -> Result<bool, Error> {
        match &self.running {
            Running::Bpf { maps, .. } => Ok(maps.began_ns()?.is_some()),
            Running::Fanotify(reader) => Ok(reader.files() > 0),
        }
    }

    /// How many different files were used so far. Costs the container nothing; may be some 20 ms old.
    pub fn files_seen(&self) -> usize {
        match &self.running {
            Running::Bpf { reader, .. } => reader.files(),
            Running::Fanotify(reader) => reader.files(),
        }
    }

    /// Ends the recording. Blocks for some milliseconds at most.
    pub fn stop(self, end: End) -> Result<Recorded, Error> {
        let now = monotonic()?;
        let wall = SystemTime::now();
        let (read, began_ns, lost, unresolved, hooks, unseen) = match self.running {
            Running::Bpf { attached, maps, reader } => {
                drop(attached);
                let read = reader.finish()?;
                let counters = maps.counters()?;
                if counters.unlinked > 0 {
                    tracing::debug!(files = counters.unlinked, "files without a name were left out");
                }
                let unresolved = counters.unresolved + read.unresolved;
                (read.timeline, maps.began_ns()?, counters.lost, unresolved, program::hooks(), Unseen::default())
            }
            Running::Fanotify(reader) => {
                let read = reader.finish()?;
                (read.timeline, read.began_ns, read.lost, read.unresolved, fanotify::HOOKS.into(), Unseen::FLAGS)
            }
        };
        let began_ns = began_ns.ok_or(Error::NothingRan(self.target))?;
        let duration = now.saturating_sub(Duration::from_nanos(began_ns));
        Ok(Recorded {
            lost: lost + read.lost(),
            unresolved,
            files: read.finish(began_ns),
            started: wall.checked_sub(duration).unwrap_or(UNIX_EPOCH),
            duration,
            end,
            recorder: name(&hooks),
            unseen,
        })
    }
}

impl Recorded {
    /// The trace of this record, of a container of `image`.
    pub fn into_trace(self, image: ImageId) -> Trace {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Trace {
            clock: Clock { wall_us: u64::try_from(started.as_micros()).unwrap_or(u64::MAX), monotonic_us: 0 },
            duration_us: u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX),
            end: self.end,
            recorder: self.recorder,
            unseen: self.unseen.and(Unseen::RANGES).and(Unseen::SET_UP),
            lost: Losses::default().with(Cause::NoRoom, self.lost).with(Cause::Unresolved, self.unresolved),
            files: self.files,
            ..Trace::of(image)
        }
    }
}

/// Which recorder this is, on which kernel.
fn name(hooks: &str) -> String {
    let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let kernel = kernel.unwrap_or_else(|_| "unknown".into());
    format!("tracer {} ({hooks}; Linux {kernel})", env!("CARGO_PKG_VERSION"))
}

/// The clock of `bpf_ktime_get_ns`.
fn monotonic() -> Result<Duration, Error> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|e| Error::System { what: "read the monotonic clock", source: e.into() })?;
    Ok(now.into())
}
