//! What is measured: each cell is a workload, by a mode, under a condition, in so many containers at once.

use serde::{Deserialize, Serialize};
use testbed::node::NodeSpec;

use crate::condition::Condition;

/// How an image's files get onto the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// containerd pulls and unpacks all layers.
    Full,
    /// From CVMFS as they are used, without any prefetch.
    Lazy,
    /// A model of the client's own bundles.
    Native,
    /// With a bundle and the prefetch daemon, and the container's start waits while that is expected to be worth it.
    Waits,
    /// With a bundle and the prefetch daemon; nothing waits.
    Prefetch,
    /// Once more on a node that has it all.
    Warm,
}

impl Mode {
    pub(super) const ALL: [Self; 6] = [Self::Full, Self::Lazy, Self::Native, Self::Waits, Self::Prefetch, Self::Warm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full pull",
            Self::Lazy => "lazy",
            Self::Native => "native bundle",
            Self::Waits => "prefetch, start waits",
            Self::Prefetch => "prefetch",
            Self::Warm => "warm",
        }
    }

    /// What a new node for it is like.
    pub(super) fn node(self) -> NodeSpec {
        let far = NodeSpec { far_registry: true, in_memory: true, ..NodeSpec::default() };
        match self {
            Self::Full => NodeSpec { snapshotter: false, daemon: false, ..far },
            Self::Lazy | Self::Native => NodeSpec { daemon: false, ..far },
            Self::Waits => NodeSpec { wait: "adaptive", ..far },
            Self::Prefetch | Self::Warm => far,
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) workload: String,
    pub(super) mode: Mode,
    pub(super) condition: Condition,
    pub(super) containers: usize,
}

impl Cell {
    /// One container.
    pub(super) fn of(workload: &str, mode: Mode, condition: Condition) -> Self {
        Self { workload: workload.to_owned(), mode, condition, containers: 1 }
    }

    /// The same by another mode.
    pub(super) fn by(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    pub(super) fn name(&self) -> String {
        let crowd = if self.containers == 1 { String::new() } else { format!(", {} containers", self.containers) };
        format!("{}, {}{crowd}", self.workload, self.condition.name())
    }
}
