//! `make bench-bundles`: quality, size and build time of bundles. See [`run`].

mod quality;
mod scale;

use std::path::Path;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use testbed::site::{Site, with_round_trip};

use crate::report::Report;

const REPORT: &str = "bench/out/bundles.json";

/// Measure quality, size and build time of bundles
#[derive(Debug, Parser)]
struct Args {
    /// Measure only this part [default: all, in this order]
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Time to build and to load a large bundle
    Scale,
    /// Coverage and waste of bundles of real traces
    Quality,
}

impl Args {
    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// Measures speed and size with synthetic traces, and quality with real ones; prints the figures and writes
/// `bench/out/bundles.json`. Fails if a target is missed.
pub async fn run() -> Result<()> {
    let args = Args::parse();
    let mut site = Site::start("site", with_round_trip(std::time::Duration::ZERO)).await?;
    let mut targets = Vec::new();
    // First, because the kernel reports the peak memory of the largest child process so far.
    if args.has(Part::Scale) {
        targets.extend(scale::measure(&mut site).await?);
    }
    if args.has(Part::Quality) {
        targets.extend(quality::measure(&mut site).await?);
    }
    let report = Report::new(Vec::new(), targets);
    report.write(Path::new(REPORT))?;
    println!("\n{}", report.table());
    ensure!(report.targets.iter().all(|target| target.ok), "a target was missed, see the table");
    Ok(())
}
