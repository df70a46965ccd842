//! Why nothing can be recorded.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

/// Why the recorder cannot work, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not describe its types, which CO-RE needs.
    #[error(
        "cannot read the kernel's type information (/sys/kernel/btf/vmlinux): the recorder needs a kernel with \
             CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf(#[source] aya::BtfError),
    /// The kernel does not let this process load or attach BPF programs.
    #[error(
        "no permission to {what}: run as root, or with CAP_BPF and CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN): {detail}"
    )]
    PermissionDenied {
        /// The refused operation, as a verb.
        what: String,
        /// The error chain of the kernel's refusal.
        detail: String,
    },
    /// The kernel rejects a program, or lacks the function or tracepoint that it hooks.
    #[error("the kernel rejected the attempt to {what} (Linux 5.12 or newer, or EL 8.6, with BTF is needed): {detail}")]
    Rejected {
        /// The rejected operation, as a verb.
        what: String,
        /// The messages of the kernel and its verifier.
        detail: String,
    },
    /// The compiled kernel part and this library do not match.
    #[error("the compiled kernel part has no {0}: it was built from other sources than the library; rebuild both")]
    ObjectMismatch(&'static str),
    /// No mounted cgroup hierarchy identifies containers.
    #[error(
        "no usable cgroup hierarchy in /proc/self/mountinfo, neither version 2 nor the version 1 controller pids: mount \
             one, for example with `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`"
    )]
    NoCgroupHierarchy,
    /// The path given for a cgroup is not one.
    #[error("{0} is not a cgroup: it has no cgroup.procs")]
    NotACgroup(PathBuf),
    /// The fanotify backend was asked for something that only BPF can do.
    #[error("the fanotify backend only records containers that it starts itself: use BPF (--backend bpf)")]
    NeedsBpf,
    /// A container that should be running has no process.
    #[error("no process of a container runs in cgroup {0}: the container has ended, or the cgroup belongs to the host")]
    NotRunning(PathBuf),
    /// The trace could not be written.
    #[error(transparent)]
    Write(#[from] bundles::trace::WriteError),
    /// An operation on a file or directory failed.
    #[error("cannot {what} {path}")]
    File {
        /// The failed operation, as a verb.
        what: &'static str,
        /// The file or directory that it failed on.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The recorder's own thread, pipe or clock failed.
    #[error("the recorder cannot {what}")]
    System {
        /// The failed operation, as a verb.
        what: &'static str,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The thread that receives the events of the kernel has ended.
    #[error("the recorder has stopped receiving events; the log says why; start it again")]
    ReaderEnded,
    /// A fanotify call failed.
    #[error("cannot {what}: fanotify needs root (CAP_SYS_ADMIN) and a kernel with CONFIG_FANOTIFY=y")]
    Fanotify {
        /// The failed operation, as a verb.
        what: &'static str,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The container's cgroup could not be frozen, so its first process would run before it is recorded.
    #[error(
        "cannot freeze a cgroup by {path}: the fanotify backend needs Linux 5.2 or newer with cgroup version 2, or the \
             version 1 controller freezer (--cgroups v1)"
    )]
    CannotFreeze {
        /// The file that freezes the cgroup.
        path: PathBuf,
        /// The error of the write to it.
        #[source]
        source: io::Error,
    },
    /// Containers are identified by cgroup version 1, and its freezer is not mounted.
    #[error(
        "the version 1 controller freezer is not mounted, and the fanotify backend needs it on a host without cgroup \
             version 2: mount it where the container runtime looks, for example with \
             `mount -t cgroup -o freezer cgroup /sys/fs/cgroup/freezer`, and restart the runtime"
    )]
    FreezerNotMounted,
    /// The container started without an overlay that fanotify could mark.
    #[error(
        "no overlay was mounted on .../{0}/rootfs: the fanotify backend needs a snapshotter that mounts overlayfs, and \
             must run in the runtime's mount namespace"
    )]
    NoOverlay(PathBuf),
    /// The recording ended before the container's first exec.
    #[error(
        "nothing was recorded: no process below cgroup {0} executed a program in a root file system other than the host's"
    )]
    NothingRecorded(PathBuf),
}

impl Error {
    /// Classifies a refusal by the kernel: missing privileges or missing kernel features.
    pub(crate) fn from_kernel(what: impl Into<String>, error: &(dyn StdError + 'static)) -> Self {
        let what = what.into();
        let mut detail = error.to_string();
        let mut permission_denied = false;
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            if !detail.contains(&text) {
                detail = format!("{detail}: {text}");
            }
            permission_denied |=
                error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            cause = error.source();
        }
        if permission_denied { Self::PermissionDenied { what, detail } } else { Self::Rejected { what, detail } }
    }
}
