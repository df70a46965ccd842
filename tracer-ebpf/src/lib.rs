//! Records with eBPF which regular files of its image, and of CVMFS repositories mounted in it, a container uses, in order
//! of first use, and which parts of them.
//!
//! [`Recorder::load`] loads the kernel part (`bpf/`, C with CO-RE, compiled by `build.rs`) and fails early where
//! privileges or kernel features are missing. [`Recorder::follow`] records one container into a trace, from before its
//! first process or from now on. [`Recorder::watch`] reports every new container of the host. [`Recording::stop`] ends a
//! trace. [`cri`] runs containers as a kubelet does.
//!
//! Modules, in the order of the data:
//!
//! | Module | Purpose |
//! |--|--|
//! | [`cgroup`] | how containers are identified; a cgroup for a container to join |
//! | `hooks` | chooses the programs of the kernel part that this kernel has and accepts |
//! | `program` | loads the kernel part and accesses its maps |
//! | `reader` | the thread that empties the ring buffer |
//! | `event` | parses the records of the ring buffer |
//! | `container` | one followed container: turns its events into journal entries |
//! | `mounts`, `path_map` | map a file of the kernel to a path in the container, and decide which files are excluded |
//! | `journal` | writes each use to the trace, once |
//! | `pages` | turns the kernel's bitmaps into ranges of bytes |
//! | `fanotify` | the backend for kernels that refuse BPF |
//! | `freezer` | stops a container's first process until that backend is ready |
//! | [`recorder`](Recorder), [`recording`](Recording), [`watch`](Watch) | the public interface |
//!
//! What is not seen, and why identification has no race: `docs/src/recorder.md`.

pub mod cgroup;
mod clock;
mod container;
pub mod cri;
mod error;
mod event;
mod fanotify;
mod freezer;
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
mod journal;
mod mounts;
mod options;
mod pages;
mod path_map;
mod program;
mod reader;
mod recorder;
mod recording;
mod watch;

pub use error::Error;
pub use journal::Output;
pub use options::Options;
pub use recorder::{Backend, Recorder, Subject, Target};
pub use recording::Recording;
pub use watch::{NewContainer, Watch};
