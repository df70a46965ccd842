//! Records with eBPF which regular files of its root file system one container opens, executes and maps, in order of
//! first use.
//!
//! [`Recorder::load`] brings the kernel part (`bpf/`, C with CO-RE, compiled by `build.rs`) into the kernel and fails
//! early where rights or kernel features are missing. [`Recorder::follow`] attaches it to one cgroup *before* the
//! container's first process exists, so there is no race; [`Recording::stop`] ends it and gives the [`Recorded`]
//! files. [`cri`] runs containers as a kubelet would.
//!
//! | Module | What it does |
//! |--|--|
//! | [`cgroup`] | finds the cgroup v2 hierarchy, makes a cgroup for a container to join |
//! | `program` | loads and attaches the BPF object |
//! | `event` | takes the records of the ring buffer apart |
//! | `timeline` | each file once, in order; scripts put before their interpreters |
//! | `reader` | the thread that empties the ring buffer |
//! | `fanotify` | the recorder where BPF is refused |
//! | [`recorder`](Recorder) | ties these together |
//!
//! What is not seen: opens through io_uring, files read by the kernel on a process's behalf without an open (copying
//! up on `chmod`, `truncate(2)`), and containers whose root is on the file system of the host's own root.

pub mod cgroup;
pub mod cri;
mod error;
mod event;
mod fanotify;
mod host;
mod program;
mod reader;
mod recorder;
mod timeline;

pub use error::Error;
pub use recorder::{Backend, Options, Recorded, Recorder, Recording, Target};
