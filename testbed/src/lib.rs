//! A whole site on one machine, for the tests, the demo and the benchmarks.
//!
//! ```text
//! images -> registry [-> link] --------------------> containerd (CRI) -> snapshotter
//!       \-> publisher -> origin -> link [-> squid] -> client (FUSE) <-----/    |
//!                                      \-> prefetch daemon <-------------------/
//! ```
//!
//! Everything runs on loopback, in its own directory and its own namespaces (see [`namespace`]), so that
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
pub mod readers;
pub mod registry;
pub mod requirement;
pub mod site;
pub mod systemd;
pub mod web;
