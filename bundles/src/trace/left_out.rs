//! What a recorder saw and left out on purpose: files that are not the image's are nobody's business.

use std::fmt;

use super::counts::{Code, Counts};

/// How many uses were left out for privacy, by reason. They are no losses: a trace with them can be complete.
pub type LeftOut = Counts<LeftOutReason>;

/// Why a use was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOutReason {
    /// Files of volumes, of `/proc` and the like: neither the image's nor CVMFS's.
    OtherFileSystem,
    /// On the same file system, but outside the container's root, such as the host's files.
    OutsideRoot,
    /// In another container's root.
    OtherContainer,
    /// One that a newer recorder counts.
    Other(u16),
}

impl LeftOut {
    /// The reasons with their counts; none has the count 0.
    pub fn by_reason(&self) -> impl Iterator<Item = (LeftOutReason, u64)> + '_ {
        self.iter()
    }
}

impl Code for LeftOutReason {
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

impl fmt::Display for LeftOutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFileSystem => f.write_str("other file system"),
            Self::OutsideRoot => f.write_str("outside the root"),
            Self::OtherContainer => f.write_str("other container"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}
