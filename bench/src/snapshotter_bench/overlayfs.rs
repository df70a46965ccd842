//! Prepare and Remove of a container's snapshot: our snapshotter against containerd's overlayfs, called in turn.
//!
//! containerd keeps its own metadata of every snapshot, and its garbage collection removes the snapshotter's. So our
//! snapshotter is measured twice: at its own socket, where Remove deletes everything before it returns, and through
//! containerd, like overlayfs.

use anyhow::{Context, Result};
use serde::Serialize;
use testbed::node::{Node, SNAPSHOTTER};

use super::calls::{Pair, Snapshotter};
use super::chain::Chain;
use crate::statistics::Quantiles;

const OVERLAYFS: &str = "overlayfs";

/// The called snapshotter, and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Variant {
    /// containerd's overlayfs, through containerd.
    Overlayfs,
    /// Our snapshotter at its own socket.
    Direct,
    /// Our snapshotter through containerd.
    ThroughContainerd,
}

impl Variant {
    const ALL: [Self; 3] = [Self::Overlayfs, Self::Direct, Self::ThroughContainerd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs, through containerd",
            Self::Direct => "snapshotter, at its socket",
            Self::ThroughContainerd => "snapshotter, through containerd",
        }
    }
}

/// Latencies of one variant with one chain, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Compared {
    pub(super) layers: usize,
    pub(super) variant: Variant,
    pub(super) prepare: Quantiles,
    pub(super) remove: Quantiles,
    /// Prepare and Remove of the same snapshot.
    pub(super) both: Quantiles,
}

/// One variant and one chain.
struct Subject<'a> {
    chain: &'a Chain,
    variant: Variant,
    snapshotter: Snapshotter,
    /// Name of the top layer's snapshot.
    parent: String,
    pairs: Vec<Pair>,
}

/// Measures each chain in each variant `pairs` times. The node has no prefetch daemon running.
pub(super) async fn measure(node: &Node, chains: &[Chain], pairs: usize) -> Result<Vec<Compared>> {
    let (_snapshotter, socket) = node.start_snapshotter("direct", None)?;
    let containerd = node.containerd.socket();
    let mut subjects = Vec::new();
    for chain in chains {
        node.pull(&chain.reference).await?;
        let images = ["images", "pull", "--plain-http", "--snapshotter", OVERLAYFS, &chain.reference];
        node.containerd.ctr(&images)?;
        for variant in Variant::ALL {
            let (socket, name) = match variant {
                Variant::Overlayfs => (&containerd, OVERLAYFS),
                Variant::Direct => (&socket, SNAPSHOTTER),
                Variant::ThroughContainerd => (&containerd, SNAPSHOTTER),
            };
            let mut snapshotter = Snapshotter::connect(socket, name).await?;
            let parent = match variant {
                Variant::Direct => snapshotter.prepare_layers(chain).await?,
                Variant::Overlayfs | Variant::ThroughContainerd => chain.chain_id().to_string(),
            };
            // The first call of a connection is not measured.
            snapshotter.pair("k8s.io/2/first", &parent).await?;
            subjects.push(Subject { chain, variant, snapshotter, parent, pairs: Vec::new() });
        }
    }
    eprintln!("Prepare and Remove, {pairs} times each ...");
    for number in 0..pairs {
        for subject in &mut subjects {
            let key = format!("k8s.io/3/container-{number}");
            subject.pairs.push(subject.snapshotter.pair(&key, &subject.parent).await?);
        }
        // No subject always follows the same other one.
        subjects.rotate_left(1);
    }
    subjects.sort_by_key(|subject| (subject.chain.len(), subject.variant as u8));
    subjects.iter().map(Subject::compared).collect()
}

impl Subject<'_> {
    fn compared(&self) -> Result<Compared> {
        let quantiles = |time: fn(&Pair) -> std::time::Duration| {
            let times = self.pairs.iter().map(|pair| time(pair).as_secs_f64() * 1e3);
            Quantiles::from_values(times.collect()).context("nothing was measured: at least one repetition is needed")
        };
        Ok(Compared {
            layers: self.chain.len(),
            variant: self.variant,
            prepare: quantiles(|pair| pair.prepare)?,
            remove: quantiles(|pair| pair.remove)?,
            both: quantiles(|pair| pair.prepare + pair.remove)?,
        })
    }
}

/// Ratio of our snapshotter's latency to overlayfs', direct and through containerd.
pub(super) fn ratios(found: &[Compared], layers: usize) -> Result<Vec<(&'static str, f64)>> {
    let median = |variant: Variant| {
        let compared = found.iter().find(|compared| compared.layers == layers && compared.variant == variant);
        compared
            .map(|compared| compared.both.median)
            .with_context(|| format!("{variant:?} was not measured with {layers} layers"))
    };
    let overlayfs = median(Variant::Overlayfs)?;
    let ours = [Variant::Direct, Variant::ThroughContainerd];
    ours.into_iter().map(|variant| Ok((variant.name(), median(variant)? / overlayfs))).collect()
}
