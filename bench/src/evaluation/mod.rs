//! `make bench`: the evaluation of the paper on CVMFS's snapshotter, repeated and extended. See [`run`].
//!
//! ```text
//! workloads -> prepare (images, traces, bundles) -> measure (one cell, once) -> records (a file) -> compare -> targets
//! options -> cells --------------------------------/                                                    \-> report, plots
//! ```

mod cells;
mod compare;
mod fleet;
mod measure;
mod options;
mod plots;
mod prepare;
mod published;
mod ready;
mod records;
mod report;
mod targets;
mod traffic;
mod workloads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bundles::image::Digest;
use testbed::node::Node;
use testbed::process;
use testbed::site::{Site, with_round_trip};
use testbed::web::Squid;

use crate::report::{Machine, targets_table};
use cells::Cell;
use prepare::Prepared;
use records::{Record, Records};
use workloads::Workload;

pub use cells::Mode;
pub use options::Options;

const RESULTS: &str = "bench/out";
/// The measured programs: records of other builds are ignored.
const PROGRAMS: [&str; 4] = ["cvmfs-prefetch", "cvmfs-prefetchd", "cvmfs-prefetch-snapshotter", "testbed-client"];

/// Prepared workloads by name.
type PreparedWorkloads = BTreeMap<&'static str, Prepared>;

/// Measures what the records of this run do not contain yet, then writes report and plots beside the records in
/// `bench/out/<date>`. Fails if a container fails or a target is missed.
pub async fn run(options: Options) -> Result<()> {
    let directory = match &options.results {
        Some(directory) => directory.clone(),
        None => Path::new(RESULTS).join(process::run("date", &["+%F"])?.trim()),
    };
    let mut records = Records::open(&directory, &programs()?)?;
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let all = prepare(&mut site, &mut records, &options).await?;
    for repetition in 1..=options.repetitions() {
        for group in options.groups() {
            measure_group(&mut site, &all, &group, repetition, &mut records).await?;
        }
    }
    if let Some(nodes) = options.fleet() {
        measure_fleet(&mut site, &all, nodes, &mut records).await?;
    }
    let missed = write(&directory, &records)?;
    ensure!(missed == 0, "{missed} targets were missed, see {}", directory.join("report.md").display());
    Ok(())
}

async fn prepare(site: &mut Site, records: &mut Records, options: &Options) -> Result<PreparedWorkloads> {
    let mut all = PreparedWorkloads::new();
    let mut recorder = None;
    for name in options.images() {
        let workload = Workload::named(name).with_context(|| format!("no workload {name}"))?;
        let (prepared, facts) = Prepared::prepare(site, &mut recorder, workload, options.record).await?;
        if records.facts(name) != Some(&facts) {
            records.add(Record::Facts(facts))?;
        }
        all.insert(name, prepared);
    }
    Ok(all)
}

/// Measures the modes of a group one after the other, so that a slow phase of the machine affects all of them.
async fn measure_group(
    site: &mut Site,
    all: &PreparedWorkloads,
    group: &[Cell],
    repetition: usize,
    records: &mut Records,
) -> Result<()> {
    // A node whose cache holds everything that the workload needs.
    let mut filled: Option<Node> = None;
    for cell in group.iter().filter(|cell| !records.has(cell, repetition)).cloned().collect::<Vec<_>>() {
        let prepared = all.get(cell.workload.as_str()).context("every workload was prepared")?;
        let node = match (cell.mode, filled.take()) {
            (Mode::Warm, Some(node)) => node,
            (mode, none_or_other) => {
                drop(none_or_other);
                let node = new_node(site, &cell).await?;
                if mode == Mode::Warm {
                    measure::measure(site, &node, prepared, &cell, repetition).await?;
                }
                node
            }
        };
        let started = Instant::now();
        let run = measure::measure(site, &node, prepared, &cell, repetition).await;
        let run = run.with_context(|| format!("{}, {}", cell.name(), cell.mode.name()))?;
        eprintln!(
            "{repetition}: {:<44} {:<21} pull {:>6.2}  ready {:>6.2}  run {:>6.2}  total {:>6.2} s, {:>5} requests; took {:>4.0} s",
            cell.name(),
            cell.mode.name(),
            run.pull_s,
            run.ready_s,
            run.run_s,
            run.whole_s,
            run.origin().requests,
            started.elapsed().as_secs_f64()
        );
        records.add(Record::Run(run))?;
        if cell.mode == Mode::Prefetch {
            filled = Some(node);
        }
    }
    Ok(())
}

/// Starts a node with empty stores and caches, on a link with the cell's condition.
async fn new_node(site: &mut Site, cell: &Cell) -> Result<Node> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    site.set_link(cell.condition.link());
    let squid = || Squid::start(&site.directory.subdirectory(&format!("squid-{number}"))?);
    let squid = cell.condition.squid.then(squid).transpose()?;
    site.set_squid(squid);
    Node::start(site, &format!("node-{number}"), cell.mode.node()).await
}

async fn measure_fleet(site: &mut Site, all: &PreparedWorkloads, nodes: usize, records: &mut Records) -> Result<()> {
    let Some(prepared) = all.get(options::FLEET_RUNS) else { return Ok(()) };
    for mode in [Mode::Lazy, Mode::Prefetch] {
        if records.fleets().any(|fleet| fleet.nodes == nodes && fleet.mode == mode) {
            continue;
        }
        eprintln!("a fleet of {nodes} nodes, {} ...", mode.name());
        let fleet = fleet::measure(site, prepared, nodes, mode).await?;
        eprintln!(
            "  {:.2} s, {} requests at the squid, peak {} per second",
            fleet.whole_s, fleet.squid_requests, fleet.squid_peak
        );
        records.add(Record::Fleet(fleet))?;
    }
    Ok(())
}

/// Writes report and plots of all records; returns how many targets were missed.
fn write(directory: &Path, records: &Records) -> Result<usize> {
    let targets = targets::check(records);
    let plots = plots::all(records)?;
    for (name, plot) in &plots {
        std::fs::write(directory.join(name), plot)?;
    }
    let names: Vec<String> = plots.into_iter().map(|(name, _)| name).collect();
    let report = report::markdown(records, &targets, &Machine::this(), &names);
    std::fs::write(directory.join("report.md"), report)?;
    println!("\n{}\n{}", targets_table(&targets), directory.join("report.md").display());
    Ok(targets.iter().filter(|target| !target.ok).count())
}

/// Identifies the measured build: a digest over the programs' files.
fn programs() -> Result<String> {
    let mut digests = String::new();
    for name in PROGRAMS {
        let path: PathBuf = process::binary(name)?;
        let program = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        digests.push_str(&Digest::sha256(&program).hex());
    }
    Ok(Digest::sha256(digests.as_bytes()).hex()[..12].to_owned())
}
