//! Records with eBPF which regular files of its image, and of CVMFS repositories mounted in it, a container uses, in order
//! of first use, and which parts of them.
//!
//! [`Recorder::load`] brings the kernel part (`bpf/`, C with CO-RE, compiled by `build.rs`) into the kernel and fails
//! early where rights or kernel features are missing. [`Recorder::follow`] follows one container into a trace, from before
//! its first process or from now on; [`Recorder::watch`] tells of every new one. [`Recording::stop`] ends a trace.
//! [`cri`] runs containers as a kubelet would.
//!
//! How the data flows:
//!
//! | Module | What it does |
//! |--|--|
//! | [`cgroup`] | by what containers are told apart; a cgroup for a container to join |
//! | `sets` | chooses the programs of the kernel part that this kernel has and accepts |
//! | `program` | loads them; the maps |
//! | `reader` | the thread that empties the ring buffer |
//! | `event` | takes its records apart |
//! | `follower` | one container: from its events to its journal |
//! | `mounts`, `places` | which file of the kernel's is which of the container's, and which are none of our business |
//! | `journal` | writes each use down, once |
//! | `pages` | the parts of files that were read |
//! | `fanotify` | the recorder where BPF is refused |
//! | `freezer` | stops a container's first process until that recorder is ready |
//! | [`recorder`](Recorder), [`recording`](Recording), [`watch`](Watch) | tie these together |
//!
//! What is not seen, and why identification has no race: `docs/src/recorder.md`.

pub mod cgroup;
mod clock;
pub mod cri;
mod error;
mod event;
mod fanotify;
mod follower;
mod freezer;
mod journal;
mod mounts;
mod pages;
mod places;
mod program;
mod reader;
mod recorder;
mod recording;
mod sets;
mod watch;

pub use error::Error;
pub use journal::Output;
pub use recorder::{Backend, Options, Recorder, Subject, Target};
pub use recording::Recording;
pub use watch::{Newcomer, Watch};
