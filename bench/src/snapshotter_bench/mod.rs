//! `make bench-snapshotter`: latency of the snapshotter's calls. See [`run`].

mod calls;
mod chain;
mod daemon_states;
mod first_byte;
mod options;
mod overlayfs;
mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, with_round_trip};

use crate::report::{Report, Target};
use crate::statistics::Quantiles;
use chain::Chain;
use daemon_states::PrepareTimes;
use overlayfs::Compared;

pub use options::Options;

const REPORT: &str = "bench/out/snapshotter.json";
/// Layers of a usual image, and of an image with many.
const LAYERS: [usize; 2] = [3, 30];
/// Largest ratio of the snapshotter's latency to overlayfs'.
const RATIO: f64 = 1.5;
/// Largest latency that prefetch requests may add to a Prepare, in milliseconds.
const ADDED_MS: f64 = 1.0;
/// Largest delay from the first Prepare to the daemon's first request, in milliseconds.
const FIRST_BYTE_MS: f64 = 20.0;

/// All figures; times in milliseconds.
#[derive(Debug, Serialize)]
struct Figures {
    against_overlayfs: Vec<Compared>,
    daemon_states: Vec<PrepareTimes>,
    /// From the first Prepare of an image's pull to the daemon's first request.
    first_byte: Quantiles,
}

/// Measures three things: Prepare and Remove against containerd's overlayfs; what a prefetch daemon in each of its states adds
/// to Prepare; the delay until the daemon's first request. Prints a table and writes `bench/out/snapshotter.json`. Fails if a
/// target is missed.
pub async fn run(options: Options) -> Result<()> {
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let mut chains = Vec::new();
    for layers in LAYERS {
        chains.push(Chain::publish(&mut site, &format!("demo/{layers}-layers"), layers).await?);
    }
    let new = first_byte::publish(&mut site).await?;
    let mut node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
    let against_overlayfs = overlayfs::measure(&node, &chains, options.pairs()).await?;
    node.start_daemon()?;
    let daemon_states = daemon_states::measure(&node, &chains[0], options.prepares()).await?;
    let first_byte = first_byte::measure(&site, &node, &new).await?;

    let figures = Figures { against_overlayfs, daemon_states, first_byte };
    let report = Report::new(Vec::new(), targets(&figures)?);
    report.write_with(Path::new(REPORT), &figures)?;
    println!("\n{}{}", table::render(&figures), report.table());
    ensure!(report.targets.iter().all(|target| target.ok), "a target was missed, see the table");
    Ok(())
}

fn targets(figures: &Figures) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for layers in LAYERS {
        for (name, ratio) in overlayfs::ratios(&figures.against_overlayfs, layers)? {
            targets.push(Target::at_most(&format!("{name} / overlayfs, {layers} layers"), ratio, RATIO));
        }
    }
    for (state, added) in daemon_states::added(&figures.daemon_states)? {
        targets.push(Target::at_most(&format!("ms added at the 99th percentile, daemon {state}"), added, ADDED_MS));
    }
    let first_byte = "ms from the first Prepare to the first request, 90th percentile";
    targets.push(Target::at_most(first_byte, figures.first_byte.p90, FIRST_BYTE_MS));
    Ok(targets)
}
