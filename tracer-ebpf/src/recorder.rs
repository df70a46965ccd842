//! The recorder's life: load, follow one container, stop.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bundles::image::ImageId;
use bundles::trace::{End, FileUse, Trace};
use nix::time::{ClockId, clock_gettime};

use crate::Error;
use crate::program::{self, Attached, Loaded, Maps};
use crate::reader::Reader;

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

/// The kernel part, accepted by the kernel and not attached yet. Recording needs Linux 5.17 with BTF, and root.
pub struct Recorder {
    options: Options,
    loaded: Loaded,
}

/// A recording that runs. Dropped without [`Recording::stop`], it leaves nothing behind in the kernel.
pub struct Recording {
    target: PathBuf,
    attached: Attached,
    maps: Maps,
    reader: Reader,
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
}

impl Recorder {
    /// Loads with the default sizes.
    pub fn load() -> Result<Self, Error> {
        Self::load_with(Options::default())
    }

    /// Loads the kernel part. Takes some 100 ms, so do it before the container starts.
    pub fn load_with(options: Options) -> Result<Self, Error> {
        let loaded = program::load(options.ring_bytes)?;
        Ok(Self { options, loaded })
    }

    /// Starts to record. The record begins with the target's first exec in a root file system of its own.
    pub fn follow(self, target: Target) -> Result<Recording, Error> {
        let Target::Cgroup(target) = target;
        let (attached, events, maps) = self.loaded.attach(&target)?;
        let reader = Reader::start(events, self.options.max_files)?;
        Ok(Recording { target, attached, maps, reader })
    }
}

impl Recording {
    /// Whether the container's first exec has been seen.
    pub fn has_begun(&self) -> Result<bool, Error> {
        Ok(self.maps.began_ns()?.is_some())
    }

    /// How many different files were used so far. Costs the container nothing; may be some 20 ms old.
    pub fn files_seen(&self) -> usize {
        self.reader.files()
    }

    /// Ends the recording. Blocks for some milliseconds at most.
    pub fn stop(self, end: End) -> Result<Recorded, Error> {
        let now = monotonic()?;
        let wall = SystemTime::now();
        drop(self.attached);
        let read = self.reader.finish()?;
        let began_ns = self.maps.began_ns()?.ok_or(Error::NothingRan(self.target))?;
        let counters = self.maps.counters()?;
        if counters.unlinked > 0 {
            tracing::debug!(files = counters.unlinked, "files without a name were left out");
        }
        let duration = now.saturating_sub(Duration::from_nanos(began_ns));
        Ok(Recorded {
            lost: counters.lost + read.timeline.lost(),
            unresolved: counters.unresolved + read.unresolved,
            files: read.timeline.finish(began_ns),
            started: wall.checked_sub(duration).unwrap_or(UNIX_EPOCH),
            duration,
            end,
        })
    }
}

impl Recorded {
    /// The trace of this record, of a container of `image`.
    pub fn into_trace(self, image: ImageId) -> Trace {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Trace {
            image,
            started: started.as_secs(),
            duration_us: u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX),
            end: self.end,
            recorder: name(),
            lost: self.lost,
            unresolved: self.unresolved,
            files: self.files,
        }
    }
}

/// Which recorder this is, on which kernel.
fn name() -> String {
    let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let kernel = kernel.unwrap_or_else(|_| "unknown".into());
    format!("tracer {} ({}; Linux {kernel})", env!("CARGO_PKG_VERSION"), program::hooks())
}

/// The clock of `bpf_ktime_get_ns`.
fn monotonic() -> Result<Duration, Error> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|e| Error::System { what: "read the monotonic clock", source: e.into() })?;
    Ok(now.into())
}
