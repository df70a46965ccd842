//! How much a prefetch slows down another reader on the same node.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use testbed::node::CvmfsSpec;
use testbed::readers::read_all;
use testbed::site::Site;

use super::bench_node::BenchNode;
use super::daemon::{by_name, finished};
use super::options::Options;
use super::workload::Workload;
use crate::condition::Condition;
use crate::statistics::spread;

const TIMEOUT: Duration = Duration::from_secs(600);
/// Single reads vary most, so they are repeated more often.
const REPETITIONS: usize = 5;

/// Seconds of a reader, alone and during a prefetch.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Interference {
    pub(super) condition: Condition,
    pub(super) alone: Vec<f64>,
    pub(super) during: Vec<f64>,
}

impl Interference {
    pub(super) fn ratio(&self) -> Option<f64> {
        Some(spread(self.during.clone())?.median / spread(self.alone.clone())?.median)
    }
}

/// `other` are the files of the reader.
pub(super) async fn measure(
    site: &Site,
    workload: &Workload,
    other: &Workload,
    options: &Options,
) -> Result<Vec<Interference>> {
    let round_trips: &[u64] = if options.quick { &[20] } else { &[20, 50] };
    let mut results = Vec::new();
    for condition in round_trips.iter().map(|ms| Condition::latency(*ms)) {
        let mut alone = Vec::new();
        let mut during = Vec::new();
        for _ in 0..REPETITIONS {
            // The daemon as nodes have it: it gives method.
            let store = Some(site.directory.path().join("store"));
            let spec = CvmfsSpec { daemon: true, store, ..CvmfsSpec::default() };
            let node = BenchNode::start(site, &condition, spec.clone())?;
            alone.push(read_all(node.mount(), &other.files, 1)?.as_secs_f64());
            drop(node);
            let node = BenchNode::start(site, &condition, spec)?;
            let daemon = node.daemon();
            let id = daemon.submit(by_name(&workload.packed)).await?;
            during.push(read_all(node.mount(), &other.files, 1)?.as_secs_f64());
            finished(&node, &daemon.wait(id, TIMEOUT).await?)?;
        }
        eprintln!("reader at {}: {alone:.3?} s alone, {during:.3?} s during a prefetch", condition.name());
        results.push(Interference { condition, alone, during });
    }
    Ok(results)
}
