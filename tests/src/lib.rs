//! A whole site on one machine, for the end-to-end tests, the demo and the benchmarks.
//!
//! ```text
//! images -> registry [-> line] --------------------> containerd (CRI) -> snapshotter
//!       \-> publisher -> origin -> line [-> squid] -> client (FUSE) <-----/    |
//!                                      \-> prefetch daemon <-------------------/
//! ```
//!
//! Everything runs on loopback, in a directory of its own and in namespaces of its own (see [`namespace`]), so that
//! nothing is left behind however a test ends.

pub mod bundle_bench;
pub mod client;
mod condition;
pub mod containerd;
pub mod demo;
pub mod evaluation;
pub mod fixture;
pub mod images;
pub mod log;
pub mod namespace;
pub mod node;
pub mod pod_bench;
pub mod prefetch_bench;
pub mod process;
pub mod publisher;
mod readers;
pub mod registry;
pub mod report;
pub mod site;
pub mod snapshotter_bench;
mod statistics;
mod svg;
pub mod web;
