//! What is to be reached.

use anyhow::{Context, Result};

use super::Figures;
use super::rounds::Runs;
use super::ways::Way;
use super::workload::Workload;
use crate::condition::Condition;
use crate::report::Target;
use crate::statistics::spread;

const NEAR: u64 = 0;
const USUAL: u64 = 20;
const FAR: u64 = 100;

pub(super) fn of(figures: &Figures, workload: &Workload) -> Result<Vec<Target>> {
    let runs = &figures.runs;
    let mut targets = Vec::new();
    for ms in [NEAR, 5, USUAL, 50, FAR] {
        if let Some(ratio) = runs.ratio(Way::Packs, Way::Limit, Condition::of(ms)) {
            targets.push(Target::at_most(&format!("with packs / limit, {ms} ms"), ratio, 1.3));
        }
    }
    let median = |way, ms| runs.seconds(way, Condition::of(ms)).map(|spread| spread.median);
    if let (Some(near), Some(far)) = (median(Way::Packs, NEAR), median(Way::Packs, FAR)) {
        let slope = (far - near) / (FAR - NEAR) as f64 * 1e3;
        targets.push(Target::at_most("with packs: round trips from 0 to 100 ms", slope, 4.0));
    }
    for (way, least) in [(Way::Readers16, 3.0), (Way::Sequential, 25.0)] {
        if let Some(ratio) = runs.ratio(way, Way::Packs, Condition::of(USUAL)) {
            targets.push(Target::at_least(&format!("{} / with packs, {USUAL} ms", way.name()), ratio, least));
        }
    }
    targets.push(Target::at_most("requests, apart from large objects", small_requests(runs, workload), 10.0));
    let first = runs.of(Way::Packs, Condition::of(NEAR)).filter_map(|run| Some(run.prefetch?.first_request * 1e3));
    let first = spread(first.collect()).context("packs are measured at 0 ms")?.median;
    targets.push(Target::at_most("ms from the call to the first request, 0 ms", first, 5.0));
    targets.push(Target::at_least("GB/s checked and unpacked by a core", figures.core_bytes_per_second / 1e9, 1.0));
    targets.push(Target::at_most("MiB at most, for a large bundle", figures.memory.peak, 64.0));
    targets.push(Target::at_most("MiB idle", figures.memory.idle, 20.0));
    for found in &figures.interference {
        let ratio = found.ratio().context("there are repetitions")?;
        let name = format!("reader beside a prefetch / alone, {}", found.condition.name());
        targets.push(Target::at_most(&name, ratio, 1.3));
    }
    targets.push(Target::at_most("bytes for 50 calls at once / for one", figures.crowd, 1.05));
    Ok(targets)
}

/// The most requests of a prefetch with packs, less one for each object that is in none.
fn small_requests(runs: &Runs, workload: &Workload) -> f64 {
    let most = runs.0.iter().filter(|run| run.way == Way::Packs).map(|run| run.requests_at.len()).max();
    most.unwrap_or_default().saturating_sub(workload.large()) as f64
}
