//! The ways to a running program.

use serde::Serialize;
use testbed::node::NodeSpec;

/// How the program's files get onto the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// containerd pulls and unpacks all layers.
    Legacy,
    /// The layers are in CVMFS, and no bundle is published.
    NoBundle,
    /// With a bundle.
    Bundle,
    /// Once more on the node of the start with a bundle.
    Warm,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Legacy, Self::NoBundle, Self::Bundle, Self::Warm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy pull",
            Self::NoBundle => "no bundle",
            Self::Bundle => "bundle",
            Self::Warm => "warm",
        }
    }

    /// What a new node for it is like; none for what needs a used one.
    pub(super) fn node(self) -> Option<NodeSpec> {
        let far = NodeSpec { far_registry: true, ..NodeSpec::default() };
        match self {
            Self::Legacy => Some(NodeSpec { snapshotter: false, daemon: false, ..far }),
            Self::NoBundle | Self::Bundle => Some(far),
            Self::Warm => None,
        }
    }
}
