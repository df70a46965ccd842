//! Events that a recorder knows it lost.

use std::fmt;

use super::counts::{Code, Counts};

/// Counts of lost events, by cause.
pub type Losses = Counts<LossCause>;

/// Why an event is not in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossCause {
    /// A buffer of the recorder was full.
    BufferFull,
    /// The path could not be resolved: it was unreadable or gone.
    Unresolved,
    /// A line of an imported file was truncated or malformed.
    Malformed,
    /// The path is deeper or longer than the recorder follows.
    TooDeep,
    /// A table of the recorder was full.
    TableFull,
    /// A cause that only newer recorders know.
    Other(u16),
}

impl Losses {
    /// The causes and their counts, which are above 0.
    pub fn by_cause(&self) -> impl Iterator<Item = (LossCause, u64)> + '_ {
        self.iter()
    }
}

impl Code for LossCause {
    fn code(self) -> u16 {
        match self {
            Self::BufferFull => 1,
            Self::Unresolved => 2,
            Self::Malformed => 3,
            Self::TooDeep => 4,
            Self::TableFull => 5,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u16) -> Self {
        match code {
            1 => Self::BufferFull,
            2 => Self::Unresolved,
            3 => Self::Malformed,
            4 => Self::TooDeep,
            5 => Self::TableFull,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferFull => f.write_str("buffer full"),
            Self::Unresolved => f.write_str("path unresolved"),
            Self::Malformed => f.write_str("malformed"),
            Self::TooDeep => f.write_str("path too deep"),
            Self::TableFull => f.write_str("table full"),
            Self::Other(code) => write!(f, "cause {code}"),
        }
    }
}
