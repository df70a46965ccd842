//! Why nothing can be recorded.

use std::io;
use std::path::PathBuf;

/// Why the recorder cannot work, and what would help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not describe its types.
    #[error(
        "the kernel's type information (/sys/kernel/btf/vmlinux) cannot be read: a kernel with \
             CONFIG_DEBUG_INFO_BTF=y is needed"
    )]
    NoBtf(#[source] aya::BtfError),
    /// The kernel does not let this process load or attach BPF programs.
    #[error(
        "no right to {what}: run as root, or with CAP_BPF and CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN): {detail}"
    )]
    NoRight {
        /// What was refused.
        what: String,
        /// What the kernel said.
        detail: String,
    },
    /// The kernel refuses a program, or lacks what it hooks.
    #[error("the kernel refuses to {what} (Linux 5.12 or newer, or EL 8.6, with BTF is needed): {detail}")]
    Refused {
        /// What was refused.
        what: String,
        /// What the kernel and its verifier said.
        detail: String,
    },
    /// The compiled kernel part and this library do not fit together.
    #[error("the compiled kernel part has no {0}: it was built from other sources than the library")]
    Missing(&'static str),
    /// No hierarchy of cgroups is mounted by which containers could be told apart.
    #[error(
        "no hierarchy of cgroups is mounted that tells containers apart, neither version 2 nor the version 1 controller \
             pids (none in /proc/self/mountinfo): mount one, for example with \
             `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`"
    )]
    NoCgroups,
    /// A directory that is none of a cgroup.
    #[error("{0} is no cgroup: it has no cgroup.procs")]
    NoCgroup(PathBuf),
    /// fanotify cannot do what BPF can.
    #[error("the fanotify recorder follows only containers that it has started itself: use BPF (--backend bpf)")]
    OnlyNew,
    /// A container that should run has no process.
    #[error("no process of a container runs in cgroup {0}: has it ended, or is it the host's own?")]
    NotRunning(PathBuf),
    /// The trace could not be written.
    #[error(transparent)]
    Write(#[from] bundles::trace::WriteError),
    /// A file or directory that the recorder needs.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The recorder's own thread or a clock failed.
    #[error("the recorder cannot {what}")]
    System {
        /// What was tried, as a verb.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// fanotify does not do what is needed.
    #[error("cannot {what}: root (CAP_SYS_ADMIN) and a kernel with CONFIG_FANOTIFY=y are needed")]
    Fanotify {
        /// What was tried, as a verb.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A container's first process could not be stopped until its root is marked.
    #[error(
        "cannot freeze a cgroup by {path}: the fanotify recorder needs Linux 5.2 or newer with cgroup version 2, or the \
             version 1 controller freezer (--cgroups v1)"
    )]
    NoFreezer {
        /// The file that freezes it.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// There is no version 1 freezer.
    #[error(
        "no hierarchy of the version 1 controller freezer is mounted, which the fanotify recorder needs on a host without \
             cgroup version 2: mount it where the container runtime looks, for example with \
             `mount -t cgroup -o freezer cgroup /sys/fs/cgroup/freezer`, and restart the runtime"
    )]
    NoFreezerMounted,
    /// The container's root did not show up.
    #[error(
        "no overlay was mounted on .../{0}/rootfs: the fanotify recorder needs a snapshotter that mounts overlayfs, and \
             the runtime's mount namespace"
    )]
    NoOverlay(PathBuf),
    /// The recording ended before anything ran.
    #[error(
        "nothing was recorded: no program was executed below cgroup {0} with a root file system other than the \
             host's"
    )]
    NothingRan(PathBuf),
}

impl Error {
    /// Tells refusals for want of rights from those for want of kernel features.
    pub(crate) fn from_kernel(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let what = what.into();
        let mut detail = error.to_string();
        let mut no_right = false;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !detail.contains(&text) {
                detail = format!("{detail}: {text}");
            }
            no_right |= error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            cause = error.source();
        }
        if no_right { Self::NoRight { what, detail } } else { Self::Refused { what, detail } }
    }
}
