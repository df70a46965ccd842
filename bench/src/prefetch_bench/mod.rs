//! `make bench-prefetch`: how fast the prefetch daemon fills a cache. See [`run`].
//!
//! The same files are brought onto a node by several methods, each time into an empty cache, over links with several round
//! trips. The daemon is compared with reading without it, and with a lower bound ([`limit`]).

mod bench_node;
mod corpus;
mod crowd;
mod daemon;
mod interference;
mod limit;
mod measure;
mod memory;
mod method;
mod options;
mod plain;
mod plots;
mod rounds;
mod table;
mod targets;
mod workload;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use testbed::node::CvmfsSpec;
use testbed::site::{Site, with_round_trip};

use crate::condition::Condition;
use crate::report::Report;
use bench_node::BenchNode;
use corpus::Corpus;
use interference::Interference;
use limit::StoredObjects;
use memory::Memory;
use rounds::Runs;
use workload::Workload;

pub use method::Method;
pub use options::Options;

const REPORT: &str = "bench/out/prefetch.json";
const TIMES_PLOT: &str = "bench/out/prefetch-times.svg";
const REQUESTS_PLOT: &str = "bench/out/prefetch-requests.svg";

/// The fetched files.
const USUAL: Corpus = Corpus { files: 2000, bytes: 195_000_000, seed: 1 };
const LARGE: Corpus = Corpus { files: 5000, bytes: 400_000_000, seed: 2 };
/// The files that another program reads meanwhile.
const OTHER: Corpus = Corpus { files: 59, bytes: 3_000_000, seed: 3 };

/// All figures.
#[derive(Debug, Serialize)]
struct Figures {
    runs: Runs,
    /// Raw bytes that a core verifies and decompresses per second.
    core_bytes_per_second: f64,
    /// Seconds that all cores take to verify and decompress everything.
    unpacked: f64,
    /// The same, including writing it.
    unpacked_and_written: f64,
    memory: Memory,
    interference: Vec<Interference>,
    crowd: f64,
}

/// Measures and prints tables; writes `bench/out/prefetch.json` and plots beside it. Fails if a target is missed.
pub async fn run(options: Options) -> Result<()> {
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    eprintln!("publishing ...");
    let workload = publish(&mut site, "usual", USUAL).await?;
    let large = if options.large { Some(publish(&mut site, "large", LARGE).await?) } else { None };
    let other = Workload::publish(&mut site, "other", OTHER).await?;

    let stored = StoredObjects::read(&site, &workload.plain)?;
    let unpacked = stored.unpacked_on_all_cores(None)?;
    let unpacked_and_written = {
        let node = BenchNode::start(&site, &Condition::latency(0), CvmfsSpec::default())?;
        stored.unpacked_on_all_cores(Some(node.path()))?
    };
    let core_bytes_per_second = stored.bytes_per_second_and_core()?;
    // Not measured: this brings the bundle into the daemon's store.
    daemon::prime(&site, &workload).await?;
    if !options.method.is_empty() {
        let runs = Runs::measure(&site, ("usual", &workload), &stored, &options).await?;
        println!(
            "\n{}all cores decompress it in {unpacked:.3?}, and write it in {unpacked_and_written:.3?}",
            table::render(&runs)
        );
        return Ok(());
    }
    let memory = memory::measure(&site, &workload, &options).await?;
    let crowd = crowd::measure(&site, &workload).await?;
    let interference = interference::measure(&site, &workload, &other, &options).await?;
    let mut runs = Runs::measure(&site, ("usual", &workload), &stored, &options).await?;
    let figures = |runs| Figures {
        runs,
        core_bytes_per_second,
        unpacked: unpacked.as_secs_f64(),
        unpacked_and_written: unpacked_and_written.as_secs_f64(),
        memory,
        interference: interference.clone(),
        crowd,
    };
    let usual = figures(runs.clone());
    let report = Report::new(Vec::new(), targets::check(&usual, &workload)?);
    println!("\n2,000 files\n{}", table::render(&runs));
    std::fs::create_dir_all("bench/out")?;
    std::fs::write(TIMES_PLOT, plots::times(&runs).svg()?)?;
    std::fs::write(REQUESTS_PLOT, plots::requests(&runs, Condition::latency(20)).svg()?)?;
    if let Some(large) = &large {
        daemon::prime(&site, large).await?;
        let stored = StoredObjects::read(&site, &large.plain)?;
        let more = Runs::measure(&site, ("large", large), &stored, &options).await?;
        println!("\n5,000 files\n{}", table::render(&more));
        runs.0.extend(more.0);
    }
    let figures = figures(runs);
    report.write_with(Path::new(REPORT), &figures)?;
    println!("{}", report.table());
    ensure!(report.targets.iter().all(|target| target.ok), "a target was missed, see the table");
    Ok(())
}

async fn publish(site: &mut Site, name: &str, corpus: Corpus) -> Result<Workload> {
    let workload = Workload::publish(site, name, corpus).await?;
    let (stored, raw) = workload.bytes();
    println!(
        "{name}: {} objects, {:.1} MB, {:.1} MB raw; {} in {} packs",
        workload.plain.objects.len(),
        stored as f64 / 1e6,
        raw as f64 / 1e6,
        workload.packed.objects.len() - workload.large(),
        workload.packs
    );
    Ok(workload)
}
