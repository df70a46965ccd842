//! Targets of `make bench-prefetch`.

use anyhow::{Context, Result};

use super::Figures;
use super::method::Method;
use super::rounds::Runs;
use super::workload::Workload;
use crate::condition::Condition;
use crate::report::Target;
use crate::statistics::spread;

const NEAR: u64 = 0;
const USUAL: u64 = 20;
const FAR: u64 = 100;

pub(super) fn check(figures: &Figures, workload: &Workload) -> Result<Vec<Target>> {
    let runs = &figures.runs;
    let mut targets = Vec::new();
    for ms in [NEAR, 5, USUAL, 50, FAR] {
        if let Some(ratio) = runs.ratio(Method::Packs, Method::Limit, Condition::latency(ms)) {
            targets.push(Target::at_most(&format!("with packs / limit, {ms} ms"), ratio, 1.3));
        }
    }
    let median = |method, ms| runs.seconds(method, Condition::latency(ms)).map(|spread| spread.median);
    if let (Some(near), Some(far)) = (median(Method::Packs, NEAR), median(Method::Packs, FAR)) {
        let slope = (far - near) / (FAR - NEAR) as f64 * 1e3;
        targets.push(Target::at_most("with packs: growth from 0 to 100 ms, in round trips", slope, 4.0));
    }
    for (method, least) in [(Method::Readers16, 3.0), (Method::Sequential, 25.0)] {
        if let Some(ratio) = runs.ratio(method, Method::Packs, Condition::latency(USUAL)) {
            targets.push(Target::at_least(&format!("{} / with packs, {USUAL} ms", method.name()), ratio, least));
        }
    }
    targets.push(Target::at_most("requests, without large objects", small_requests(runs, workload), 10.0));
    let first =
        runs.select(Method::Packs, Condition::latency(NEAR)).filter_map(|run| Some(run.prefetch?.first_request * 1e3));
    let first = spread(first.collect()).context("packs are measured at 0 ms")?.median;
    targets.push(Target::at_most("ms from the request to the first fetch, 0 ms", first, 5.0));
    targets.push(Target::at_least("GB/s verified and decompressed per core", figures.core_bytes_per_second / 1e9, 1.0));
    targets.push(Target::at_most("peak MiB, large bundle", figures.memory.peak, 64.0));
    targets.push(Target::at_most("MiB idle", figures.memory.idle, 20.0));
    for found in &figures.interference {
        let ratio = found.ratio().context("no repetitions")?;
        let name = format!("reader during a prefetch / alone, {}", found.condition.name());
        targets.push(Target::at_most(&name, ratio, 1.3));
    }
    targets.push(Target::at_most("bytes for 50 simultaneous requests / for one", figures.crowd, 1.05));
    Ok(targets)
}

/// The largest number of requests of a prefetch with packs, minus one for each object outside packs.
fn small_requests(runs: &Runs, workload: &Workload) -> f64 {
    let most = runs.0.iter().filter(|run| run.method == Method::Packs).map(|run| run.requests_at.len()).max();
    most.unwrap_or_default().saturating_sub(workload.large()) as f64
}
