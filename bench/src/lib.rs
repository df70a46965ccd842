//! The demo and the benchmarks. Each runs in a site of the [`testbed`] and prints what it found.
//!
//! ```text
//! demo                                   one chain from trace to prefetched start: `make demo`
//! evaluation                             images x ways x conditions, repeated: `make bench`
//! bundle, pod, prefetch, snapshotter     one part each: `make bench-bundles` and so on
//! condition, readers                     what they share: the network, processes that read a mount
//! report, statistics, svg                what becomes of measurements: JSON, tables, quantiles, plots
//! ```

pub mod bundle_bench;
mod condition;
pub mod demo;
pub mod evaluation;
pub mod pod_bench;
pub mod prefetch_bench;
mod readers;
pub mod report;
pub mod snapshotter_bench;
mod statistics;
mod svg;
