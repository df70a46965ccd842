//! The compared modes.

use serde::Serialize;
use testbed::node::NodeSpec;

/// How the program's files get onto the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// containerd pulls and unpacks all layers.
    Legacy,
    /// The layers are in CVMFS; no bundle is published.
    NoBundle,
    /// The layers are in CVMFS, with a bundle.
    Bundle,
    /// Again on the node of the start with a bundle.
    Warm,
}

impl Mode {
    pub(super) const ALL: [Self; 4] = [Self::Legacy, Self::NoBundle, Self::Bundle, Self::Warm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy pull",
            Self::NoBundle => "no bundle",
            Self::Bundle => "bundle",
            Self::Warm => "warm",
        }
    }

    /// The new node that this mode needs; `None` if it runs on the previous one.
    pub(super) fn node(self) -> Option<NodeSpec> {
        let far = NodeSpec { far_registry: true, ..NodeSpec::default() };
        match self {
            Self::Legacy => Some(NodeSpec { snapshotter: false, daemon: false, ..far }),
            Self::NoBundle | Self::Bundle => Some(far),
            Self::Warm => None,
        }
    }
}
