//! What is to be reached.

use anyhow::Result;

use super::runs::Runs;
use super::ways::Way;
use crate::report::{Case, Target};

/// From this distance on a bundle has to pay: nearer, there is little to wait for.
const FAR_MS: u64 = 20;

pub(super) fn of(runs: &Runs) -> Result<Vec<Target>> {
    let (whole, run) = (|case: &Case| case.total_s, |case: &Case| case.run_s);
    let mut targets = Vec::new();
    for ms in runs.round_trips() {
        let ratio = runs.ratio(Way::Bundle, Way::Legacy, ms, whole)?;
        targets.push(Target::at_most(&format!("whole time, bundle / legacy pull, {ms} ms"), ratio, 1.0));
        if ms >= FAR_MS {
            let ratio = runs.ratio(Way::Bundle, Way::NoBundle, ms, whole)?;
            targets.push(Target::at_most(&format!("whole time, bundle / no bundle, {ms} ms"), ratio, 1.0 / 3.0));
            let ratio = runs.ratio(Way::Bundle, Way::Warm, ms, run)?;
            targets.push(Target::at_most(&format!("run time, bundle / warm, {ms} ms"), ratio, 1.25));
        }
    }
    Ok(targets)
}
