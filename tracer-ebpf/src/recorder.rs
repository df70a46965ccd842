//! The recorder's life: load, follow containers, watch for new ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundles::image::ImageId;
use bundles::trace::{BlindSpots, Clock, Head};

use crate::cgroup::{self, Hierarchy, Version};
use crate::follower::{Follower, Preface};
use crate::freezer::Freezer;
use crate::journal::Output;
use crate::places::Places;
use crate::program::{Kernel, page_shift};
use crate::reader::{Followed, Reader};
use crate::recording::{Recording, Running};
use crate::watch::{Newcomer, Watch};
use crate::{Error, clock, fanotify, mounts};

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
                let followed = Followed::new(reader, cgroup::id(&cgroup)?);
                let mut shared = reader.shared();
                let mut follower = Follower::new(cgroup.clone());
                follower.want(self.preface(subject, shared.kernel.hooks(), shared.kernel.blind_spots()), out);
                // The follower first: no event may come before it.
                shared.enrol(followed.target(), follower);
                shared.kernel.follow_new(followed.target())?;
                Running::Bpf(followed)
            }
            (Means::Bpf(reader), Target::Running(_)) => {
                let followed = Followed::new(reader, cgroup::id(&cgroup)?);
                let places = running_places(&cgroup)?;
                let mut shared = reader.shared();
                let now_ns = clock::now_ns();
                let device = places.root_device();
                let mut follower = Follower::running(cgroup.clone(), places, now_ns);
                let blind_spots = shared.kernel.blind_spots().and(BlindSpots::START).and(BlindSpots::SET_UP);
                follower.want(self.preface(subject, shared.kernel.hooks(), blind_spots), out);
                shared.enrol(followed.target(), follower);
                shared.kernel.follow_running(followed.target(), now_ns, device)?;
                Running::Bpf(followed)
            }
            (Means::Fanotify(freezer), Target::New(_)) => {
                let preface = self.preface(subject, fanotify::HOOKS.into(), fanotify::UNSEEN);
                Running::Fanotify(fanotify::Reader::start(freezer, &cgroup, preface, out)?)
            }
            (Means::Fanotify(_), Target::Running(_)) => return Err(Error::OnlyNew),
        };
        Ok(Recording::new(cgroup, running))
    }

    /// Follows every container of the host that begins from now on, before its first process. Needs [`Options::watch`].
    pub fn watch(&self) -> Result<Watch, Error> {
        let Means::Bpf(reader) = &self.means else { return Err(Error::OnlyNew) };
        Watch::start(reader)
    }

    /// Records a newcomer into `out`, from before its first exec.
    pub fn adopt(&self, newcomer: Newcomer, subject: Subject, out: Output) -> Result<Recording, Error> {
        let Newcomer { followed, cgroup } = newcomer;
        let cgroup = self.hierarchy.directory(&cgroup);
        let mut shared = followed.shared();
        let preface = self.preface(subject, shared.kernel.hooks(), shared.kernel.blind_spots());
        let follower = shared.followers.get_mut(&followed.target()).ok_or_else(|| Error::NotRunning(cgroup.clone()))?;
        follower.want(preface, out);
        drop(shared);
        Ok(Recording::new(cgroup, Running::Bpf(followed)))
    }

    fn preface(&self, subject: Subject, hooks: String, blind_spots: BlindSpots) -> Preface {
        let head = Head {
            image: subject.image,
            clock: Clock::default(),
            recorder: name(&hooks, self.hierarchy.version),
            blind_spots,
            command: subject.command,
            profile: subject.profile,
        };
        Preface { head, max_files: self.options.max_files, page_shift: page_shift() }
    }
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
