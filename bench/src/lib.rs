//! The demo and the benchmarks. Each runs in a site of the [`testbed`] and prints what it found.
//!
//! ```text
//! demo                                   one chain from trace to prefetched start: `make demo`
//! evaluation                             images x modes x network conditions, repeated: `make bench`
//! bundle_, pod_, prefetch_, snapshotter_ one component each: `make bench-bundles` and so on
//! condition, start                       shared: network conditions, one start of a pod
//! report, statistics, plot               output: JSON, tables, quantiles, plots
//! ```

pub mod bundle_bench;
mod condition;
pub mod demo;
pub mod evaluation;
mod plot;
pub mod pod_bench;
pub mod prefetch_bench;
pub mod report;
pub mod snapshotter_bench;
mod start;
mod statistics;
