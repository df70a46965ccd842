//! `make bench-bundles`: how good, how small and how quick bundles are. See [`run`].

mod quality;
mod scale;

use std::path::Path;

use anyhow::{Result, ensure};

use crate::report::Report;
use crate::site::{Site, with_round_trip};

const REPORT: &str = "bench/out/bundles.json";

/// Measures bundles of synthetic traces for their speed and size, and of real ones for their quality; prints what it finds and
/// writes `bench/out/bundles.json`. Fails if a target is missed.
pub async fn run() -> Result<()> {
    let mut site = Site::start("site", with_round_trip(std::time::Duration::ZERO)).await?;
    // First, as the memory of the largest program that has ended so far is what can be asked for.
    let mut targets = scale::measure(&mut site).await?;
    targets.extend(quality::measure(&mut site).await?);
    let report = Report::new(Vec::new(), targets);
    report.write(Path::new(REPORT))?;
    println!("\n{}", report.table());
    ensure!(report.targets.iter().all(|target| target.ok), "a target was missed, see the table");
    Ok(())
}
