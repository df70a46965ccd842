//! What a prefetch costs a program of the same node that reads something else.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use testbed::node::CvmfsSpec;
use testbed::site::Site;

use super::daemon::{by_name, finished};
use super::options::Options;
use super::place::Place;
use super::workload::Workload;
use crate::condition::Condition;
use crate::readers::read_all;
use crate::statistics::spread;

const LONG: Duration = Duration::from_secs(600);
/// Single reads vary more than anything else here.
const TIMES: usize = 5;

/// How long a reader took, alone and beside a prefetch, in seconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Interference {
    pub(super) condition: Condition,
    pub(super) alone: Vec<f64>,
    pub(super) beside: Vec<f64>,
}

impl Interference {
    pub(super) fn ratio(&self) -> Option<f64> {
        Some(spread(self.beside.clone())?.median / spread(self.alone.clone())?.median)
    }
}

/// `other` is what the program reads.
pub(super) async fn measure(
    site: &Site,
    workload: &Workload,
    other: &Workload,
    options: &Options,
) -> Result<Vec<Interference>> {
    let far: &[u64] = if options.quick { &[20] } else { &[20, 50] };
    let mut found = Vec::new();
    for condition in far.iter().map(|ms| Condition::of(*ms)) {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            // The daemon as nodes have it: it gives way.
            let store = Some(site.directory.path().join("store"));
            let spec = CvmfsSpec { daemon: true, store, ..CvmfsSpec::default() };
            let place = Place::start(site, &condition, spec.clone())?;
            alone.push(read_all(place.mount(), &other.files, 1)?.as_secs_f64());
            drop(place);
            let place = Place::start(site, &condition, spec)?;
            let daemon = place.daemon();
            let id = daemon.ask(by_name(&workload.packed)).await?;
            beside.push(read_all(place.mount(), &other.files, 1)?.as_secs_f64());
            finished(&place, &daemon.wait(id, LONG).await?)?;
        }
        eprintln!("beside a prefetch, {}: {alone:.3?} s alone, {beside:.3?} s", condition.name());
        found.push(Interference { condition, alone, beside });
    }
    Ok(found)
}
