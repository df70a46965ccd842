//! Targets of `make bench-pod`.

use anyhow::Result;

use super::modes::Mode;
use super::runs::Runs;
use crate::report::{Case, Target};

/// From this round trip on a bundle must pay off; below, there is little to gain.
const FAR_MS: u64 = 20;

pub(super) fn check(runs: &Runs) -> Result<Vec<Target>> {
    let total = |case: &Case| case.total_s;
    let run = |case: &Case| case.run_s;
    let mut targets = Vec::new();
    for ms in runs.round_trips() {
        let ratio = runs.ratio(Mode::Bundle, Mode::Legacy, ms, total)?;
        targets.push(Target::at_most(&format!("total time, bundle / legacy pull, {ms} ms"), ratio, 1.0));
        if ms >= FAR_MS {
            let ratio = runs.ratio(Mode::Bundle, Mode::NoBundle, ms, total)?;
            targets.push(Target::at_most(&format!("total time, bundle / no bundle, {ms} ms"), ratio, 1.0 / 3.0));
            let ratio = runs.ratio(Mode::Bundle, Mode::Warm, ms, run)?;
            targets.push(Target::at_most(&format!("run time, bundle / warm, {ms} ms"), ratio, 1.25));
        }
    }
    Ok(targets)
}
