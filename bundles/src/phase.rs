//! The phases of a container's life, which order what a bundle holds.

use std::fmt;

use serde::Serialize;

/// A phase of a container's life. Traces record when each begins; bundles store the phase of every object, and the
/// daemon counts objects of the phases before [`Phase::Main`] as critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The OCI runtime prepares the container.
    SetUp,
    /// The container's programs start.
    StartUp,
    /// The container does the work it was started for.
    Main,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SetUp => "set-up",
            Self::StartUp => "start-up",
            Self::Main => "main",
        })
    }
}
