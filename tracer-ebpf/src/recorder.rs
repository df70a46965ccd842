//! The recorder: loads a backend, follows containers, watches for new ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundles::image::ImageId;
use bundles::trace::{BlindSpots, Clock, Head};

use crate::cgroup::{self, Hierarchy, Version};
use crate::container::{TraceSettings, TracedContainer};
use crate::freezer::Freezer;
use crate::journal::Output;
use crate::options::Options;
use crate::path_map::PathMap;
use crate::program::{Kernel, page_shift};
use crate::reader::{FollowGuard, Reader};
use crate::recording::{Recording, Session};
use crate::watch::{NewContainer, Watch};
use crate::{Error, clock, fanotify, mounts};

/// The container to record, by its cgroup directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A container that has not started. Its cgroup must exist already, see [`crate::cgroup::Cgroup`]. The fanotify backend
    /// freezes the parent cgroup until the container's root is mounted, so the parent must contain only the container's pod.
    New(PathBuf),
    /// A running container. Its trace lacks everything before this moment, and says so.
    Running(PathBuf),
}

/// What a trace says about its container.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The container's image.
    pub image: ImageId,
    /// The program and its arguments; empty unless they should be stored in the trace.
    pub command: Vec<String>,
    /// The profile (named workload) that the recording shows; empty for none.
    pub profile: String,
}

/// The kernel interface that the recorder uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// BPF; where that does not work fanotify, with a warning that says why.
    #[default]
    Auto,
    /// BPF. Needs a kernel with BTF, and root.
    Bpf,
    /// fanotify on the container's overlay. Needs root. Sees less (see `fanotify.rs`), and the trace says so.
    Fanotify,
}

/// A recorder that the kernel has accepted. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    options: Options,
    hierarchy: Hierarchy,
    backend: LoadedBackend,
}

#[derive(Clone)]
enum LoadedBackend {
    Bpf(Arc<Reader>),
    Fanotify(Freezer),
}

impl Recorder {
    /// Loads the BPF backend. Takes about 100 ms, so call it before the container starts.
    pub fn load(options: Options) -> Result<Self, Error> {
        let hierarchy = Hierarchy::detect(options.cgroups)?;
        let (kernel, events) = Kernel::load(&options, &hierarchy)?;
        let reader = Reader::start(kernel, events, hierarchy.mount_point.clone())?;
        Ok(Self { options, hierarchy, backend: LoadedBackend::Bpf(Arc::new(reader)) })
    }

    /// Loads the given backend.
    pub fn load_backend(backend: Backend, options: Options) -> Result<Self, Error> {
        match backend {
            Backend::Bpf => Self::load(options),
            Backend::Fanotify => Self::load_fanotify(options),
            Backend::Auto => Self::load(options.clone()).or_else(|error| {
                tracing::warn!(%error, "BPF cannot be used; using fanotify, which sees less");
                Self::load_fanotify(options)
            }),
        }
    }

    fn load_fanotify(options: Options) -> Result<Self, Error> {
        // Fails now, rather than when the container starts, if fanotify is not permitted.
        fanotify::group()?;
        let hierarchy = Hierarchy::detect(options.cgroups)?;
        let freezer = Freezer::detect(&hierarchy)?;
        Ok(Self { options, hierarchy, backend: LoadedBackend::Fanotify(freezer) })
    }

    /// The cgroup hierarchy that identifies containers.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Starts to record a container into `out`.
    pub fn follow(&self, target: &Target, subject: Subject, out: Output) -> Result<Recording, Error> {
        let (Target::New(cgroup) | Target::Running(cgroup)) = target;
        let session = match (&self.backend, target) {
            (LoadedBackend::Bpf(reader), Target::New(_)) => self.follow_new(reader, cgroup, subject, out)?,
            (LoadedBackend::Bpf(reader), Target::Running(_)) => self.follow_running(reader, cgroup, subject, out)?,
            (LoadedBackend::Fanotify(freezer), Target::New(_)) => {
                let settings = self.trace_settings(subject, fanotify::HOOKS.into(), fanotify::UNSEEN);
                Session::Fanotify(fanotify::Session::start(freezer, cgroup, settings, out)?)
            }
            (LoadedBackend::Fanotify(_), Target::Running(_)) => return Err(Error::NeedsBpf),
        };
        Ok(Recording::new(cgroup.clone(), session))
    }

    fn follow_new(&self, reader: &Arc<Reader>, cgroup: &Path, subject: Subject, out: Output) -> Result<Session, Error> {
        let guard = FollowGuard::new(reader, cgroup::id(cgroup)?);
        let mut shared = reader.shared();
        let mut container = TracedContainer::new(cgroup.into());
        container
            .request_trace(self.trace_settings(subject, shared.kernel.hook_names(), shared.kernel.blind_spots()), out);
        // The container is added first, so that its first event finds it.
        shared.add_container(guard.target(), container);
        let followed = shared.kernel.follow_new(guard.target());
        // The guard takes the lock when it is dropped.
        drop(shared);
        followed.map(|()| Session::Bpf(guard))
    }

    fn follow_running(
        &self,
        reader: &Arc<Reader>,
        cgroup: &Path,
        subject: Subject,
        out: Output,
    ) -> Result<Session, Error> {
        let guard = FollowGuard::new(reader, cgroup::id(cgroup)?);
        let path_map = path_map_of_running(cgroup)?;
        let mut shared = reader.shared();
        let now_ns = clock::now_ns();
        let device = path_map.root_device();
        let mut container = TracedContainer::running(cgroup.into(), path_map, now_ns);
        let blind_spots = shared.kernel.blind_spots().and(BlindSpots::START).and(BlindSpots::SET_UP);
        container.request_trace(self.trace_settings(subject, shared.kernel.hook_names(), blind_spots), out);
        shared.add_container(guard.target(), container);
        let followed = shared.kernel.follow_running(guard.target(), now_ns, device);
        drop(shared);
        followed.map(|()| Session::Bpf(guard))
    }

    /// Reports every container of the host that starts from now on, before its first process. Needs [`Options::watch`].
    pub fn watch(&self) -> Result<Watch, Error> {
        let LoadedBackend::Bpf(reader) = &self.backend else { return Err(Error::NeedsBpf) };
        Watch::start(reader)
    }

    /// Records a container that [`Watch::next`] reported into `out`, including everything since its cgroup was created.
    pub fn record(&self, new_container: NewContainer, subject: Subject, out: Output) -> Result<Recording, Error> {
        let NewContainer { guard, cgroup } = new_container;
        let cgroup = self.hierarchy.directory(&cgroup);
        let mut shared = guard.shared();
        let settings = self.trace_settings(subject, shared.kernel.hook_names(), shared.kernel.blind_spots());
        let container = shared.containers.get_mut(&guard.target());
        let requested = container.map(|container| container.request_trace(settings, out));
        drop(shared);
        requested.ok_or_else(|| Error::NotRunning(cgroup.clone()))?;
        Ok(Recording::new(cgroup, Session::Bpf(guard)))
    }

    fn trace_settings(&self, subject: Subject, hooks: String, blind_spots: BlindSpots) -> TraceSettings {
        let head = Head {
            image: subject.image,
            clock: Clock::default(),
            recorder: description(&hooks, self.hierarchy.version),
            blind_spots,
            command: subject.command,
            profile: subject.profile,
        };
        TraceSettings { head, max_files: self.options.max_files, page_shift: page_shift() }
    }
}

fn path_map_of_running(cgroup: &Path) -> Result<PathMap, Error> {
    let host = mounts::own_mounts()?;
    let mounts = TracedContainer::new(cgroup.into()).container_mounts();
    mounts.and_then(|mounts| PathMap::new(mounts, &host)).ok_or_else(|| Error::NotRunning(cgroup.into()))
}

/// For the trace's `recorder`: version, hooks, cgroup hierarchy and kernel.
fn description(hooks: &str, version: Version) -> String {
    let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let kernel = kernel.unwrap_or_else(|_| "unknown".into());
    let cgroups = match version {
        Version::V1 => "cgroup v1 pids",
        Version::V2 => "cgroup v2",
    };
    format!("cvmfs-prefetch {} ({hooks}; {cgroups}; Linux {kernel})", env!("CARGO_PKG_VERSION"))
}
