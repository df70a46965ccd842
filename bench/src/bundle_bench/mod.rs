//! `make bench-bundles`: how good, how small and how quick bundles are. See [`run`].

mod quality;
mod scale;

use std::path::Path;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use testbed::site::{Site, with_round_trip};

use crate::report::Report;

const REPORT: &str = "bench/out/bundles.json";

/// How good, how small and how quick bundles are
#[derive(Debug, Parser)]
struct Args {
    /// Measure only this; by default all, in this order
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How long it takes to make a large bundle, and to load one
    Scale,
    /// How well bundles of real traces fit
    Quality,
}

impl Args {
    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// Measures bundles of synthetic traces for their speed and size, and of real ones for their quality; prints what it finds and
/// writes `bench/out/bundles.json`. Fails if a target is missed.
pub async fn run() -> Result<()> {
    let args = Args::parse();
    let mut site = Site::start("site", with_round_trip(std::time::Duration::ZERO)).await?;
    let mut targets = Vec::new();
    // First, as the memory of the largest program that has ended so far is what can be asked for.
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
