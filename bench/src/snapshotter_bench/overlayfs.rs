//! A container's snapshot, by the plugin and by containerd's overlayfs, in turn.
//!
//! containerd keeps metadata of its own of every snapshot, and leaves the removal of the snapshotter's to its garbage
//! collection. So the plugin is measured twice: at its own socket, where its Remove deletes everything before it answers,
//! and through containerd, where both snapshotters are asked in the same way.

use anyhow::{Context, Result};
use serde::Serialize;
use testbed::node::{Node, SNAPSHOTTER};

use super::calls::{Pair, Snapshotter};
use super::chain::Chain;
use crate::statistics::Quantiles;

const OVERLAYFS: &str = "overlayfs";

/// Who is asked, and by which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// containerd's overlayfs, by containerd's service.
    Overlayfs,
    /// The plugin at its own socket.
    Plugin,
    /// The plugin by containerd's service.
    PluginByContainerd,
}

impl Way {
    const ALL: [Self; 3] = [Self::Overlayfs, Self::Plugin, Self::PluginByContainerd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs, by containerd",
            Self::Plugin => "plugin, at its socket",
            Self::PluginByContainerd => "plugin, by containerd",
        }
    }
}

/// What one way took with one chain, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Compared {
    pub(super) layers: usize,
    pub(super) way: Way,
    pub(super) prepare: Quantiles,
    pub(super) remove: Quantiles,
    /// Of one snapshot.
    pub(super) both: Quantiles,
}

/// One way to one chain.
struct Subject<'a> {
    chain: &'a Chain,
    way: Way,
    snapshotter: Snapshotter,
    /// The topmost layer's name.
    parent: String,
    pairs: Vec<Pair>,
}

/// Measures each chain in each way `pairs` times. The node has no prefetch daemon running.
pub(super) async fn measure(node: &Node, chains: &[Chain], pairs: usize) -> Result<Vec<Compared>> {
    let (_plugin, socket) = node.start_plugin("beside", None)?;
    let containerd = node.containerd.socket();
    let mut subjects = Vec::new();
    for chain in chains {
        node.pull(&chain.reference).await?;
        let images = ["images", "pull", "--plain-http", "--snapshotter", OVERLAYFS, &chain.reference];
        node.containerd.ctr(&images)?;
        for way in Way::ALL {
            let (socket, name) = match way {
                Way::Overlayfs => (&containerd, OVERLAYFS),
                Way::Plugin => (&socket, SNAPSHOTTER),
                Way::PluginByContainerd => (&containerd, SNAPSHOTTER),
            };
            let mut snapshotter = Snapshotter::connect(socket, name).await?;
            let parent = match way {
                Way::Plugin => snapshotter.take(chain).await?,
                Way::Overlayfs | Way::PluginByContainerd => chain.chain_id().to_string(),
            };
            // The first call of a connection is not what is measured.
            snapshotter.pair("k8s.io/2/first", &parent).await?;
            subjects.push(Subject { chain, way, snapshotter, parent, pairs: Vec::new() });
        }
    }
    eprintln!("Prepare and Remove, {pairs} times each ...");
    for number in 0..pairs {
        for subject in &mut subjects {
            let key = format!("k8s.io/3/container-{number}");
            subject.pairs.push(subject.snapshotter.pair(&key, &subject.parent).await?);
        }
        // Nobody is always the one that comes after another.
        subjects.rotate_left(1);
    }
    subjects.sort_by_key(|subject| (subject.chain.len(), subject.way as u8));
    subjects.iter().map(Subject::compared).collect()
}

impl Subject<'_> {
    fn compared(&self) -> Result<Compared> {
        let of = |time: fn(&Pair) -> std::time::Duration| {
            let times = self.pairs.iter().map(|pair| time(pair).as_secs_f64() * 1e3);
            Quantiles::of(times.collect()).context("nothing was measured: ask for at least one repetition")
        };
        Ok(Compared {
            layers: self.chain.len(),
            way: self.way,
            prepare: of(|pair| pair.prepare)?,
            remove: of(|pair| pair.remove)?,
            both: of(|pair| pair.prepare + pair.remove)?,
        })
    }
}

/// How many times as long as overlayfs the plugin takes, by each way to it.
pub(super) fn ratios(found: &[Compared], layers: usize) -> Result<Vec<(&'static str, f64)>> {
    let median = |way: Way| {
        let one = found.iter().find(|one| one.layers == layers && one.way == way);
        one.map(|one| one.both.median).with_context(|| format!("{way:?} was not measured with {layers} layers"))
    };
    let overlayfs = median(Way::Overlayfs)?;
    let plugins = [Way::Plugin, Way::PluginByContainerd];
    plugins.into_iter().map(|way| Ok((way.name(), median(way)? / overlayfs))).collect()
}
