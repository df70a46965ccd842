//! `make bench-pod`: a pod from pull to end, in several modes and with several round trips. See [`run`].

mod bundle;
mod modes;
mod options;
mod runs;
mod targets;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::images;
use testbed::site::{Site, image_cache, with_round_trip};

use crate::plot::{Bar, BarPlot};
use crate::report::{Case, Report};
use bundle::Bundles;
use runs::Runs;

pub use options::Options;

const REPORT: &str = "bench/out/pod.json";
const PLOT: &str = "bench/out/pod.svg";

/// Runs a Python program in a pod in every mode; prints a table, writes `bench/out/pod.json` and a plot beside it. Fails if a
/// pod fails or a target is missed.
pub async fn run(options: Options) -> Result<()> {
    eprintln!("building the image (the first time this installs Debian and Python into a directory: some minutes)");
    let image = images::python(&image_cache()?)?;
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let reference = site.publish(&image).await?;
    eprintln!("recording, building the bundle ...");
    let bundles = Bundles::make(&site, &reference).await?;
    let runs = Runs::measure(&mut site, &reference, &bundles, &options).await?;

    let report = Report::new(runs.medians(), targets::check(&runs)?);
    // The report contains medians; these are the single runs.
    report.write_with(Path::new(REPORT), &BTreeMap::from([("runs", &runs.0)]))?;
    std::fs::write(PLOT, plot(&report.cases).svg()?)?;
    println!("\n{}", report.table());
    ensure!(report.targets.iter().all(|target| target.ok), "a target was missed, see the table");
    Ok(())
}

/// One bar per case, split into pull, start and run.
fn plot(cases: &[Case]) -> BarPlot {
    let bar = |case: &Case| Bar {
        name: case.name.clone(),
        group: String::new(),
        values: vec![case.pull_s, case.start_s, case.run_s],
    };
    BarPlot {
        title: "A Python program in a pod: seconds".into(),
        parts: ["pull", "sandbox, create, start", "run"].map(String::from).into(),
        bars: cases.iter().map(bar).collect(),
    }
}
