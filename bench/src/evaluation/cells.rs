//! Cells of the evaluation: a workload, a mode, a network condition and a number of containers that start at once.

use serde::{Deserialize, Serialize};
use testbed::node::NodeSpec;

use crate::condition::Condition;

/// How an image's files get onto the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// containerd pulls and unpacks all layers.
    Full,
    /// From CVMFS on access, without prefetch.
    Lazy,
    /// A model of the CVMFS client's own bundles.
    Native,
    /// With a bundle and the prefetch daemon; the start waits for it adaptively.
    Waits,
    /// With a bundle and the prefetch daemon; nothing waits.
    Prefetch,
    /// Again on the node of the prefetched start.
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

    /// The node that this mode needs.
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

/// One cell. Part of the JSON records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) workload: String,
    pub(super) mode: Mode,
    pub(super) condition: Condition,
    pub(super) containers: usize,
}

impl Cell {
    /// A cell with one container.
    pub(super) fn new(workload: &str, mode: Mode, condition: Condition) -> Self {
        Self { workload: workload.to_owned(), mode, condition, containers: 1 }
    }

    /// The same cell with another mode.
    pub(super) fn with_mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    pub(super) fn name(&self) -> String {
        let crowd = if self.containers == 1 { String::new() } else { format!(", {} containers", self.containers) };
        format!("{}, {}{crowd}", self.workload, self.condition.name())
    }
}
