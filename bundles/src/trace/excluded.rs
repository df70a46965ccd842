//! Files that a recorder excludes on purpose, for privacy: they do not belong to the image.

use std::fmt;

use super::counts::{Code, Counts};

/// Counts of uses excluded for privacy, by reason. They are not losses: a trace with excluded uses can be
/// complete.
pub type Excluded = Counts<ExcludedReason>;

/// Why a use was excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExcludedReason {
    /// Files of volumes, of `/proc` and the like: neither the image's nor CVMFS's.
    OtherFileSystem,
    /// Files on the same file system, but outside the container's root, such as the host's.
    OutsideRoot,
    /// Files in another container's root.
    OtherContainer,
    /// A reason that only newer recorders know.
    Other(u16),
}

impl Excluded {
    /// The reasons and their counts, which are above 0.
    pub fn by_reason(&self) -> impl Iterator<Item = (ExcludedReason, u64)> + '_ {
        self.iter()
    }
}

impl Code for ExcludedReason {
    fn code(self) -> u16 {
        match self {
            Self::OtherFileSystem => 1,
            Self::OutsideRoot => 2,
            Self::OtherContainer => 3,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u16) -> Self {
        match code {
            1 => Self::OtherFileSystem,
            2 => Self::OutsideRoot,
            3 => Self::OtherContainer,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for ExcludedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFileSystem => f.write_str("other file system"),
            Self::OutsideRoot => f.write_str("outside the root"),
            Self::OtherContainer => f.write_str("other container"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}
