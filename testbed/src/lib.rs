//! A whole site on one machine, for the tests, the demo and the benchmarks.
//!
//! ```text
//! images -> registry [-> line] --------------------> containerd (CRI) -> snapshotter
//!       \-> publisher -> origin -> line [-> squid] -> client (FUSE) <-----/    |
//!                                      \-> prefetch daemon <-------------------/
//! ```
//!
//! Everything runs on loopback, in a directory of its own and in namespaces of its own (see [`namespace`]), so that
//! nothing is left behind however a test ends.

pub mod client;
pub mod containerd;
pub mod fixture;
pub mod images;
pub mod log;
pub mod namespace;
pub mod node;
pub mod process;
pub mod publisher;
pub mod registry;
pub mod site;
pub mod systemd;
pub mod web;
