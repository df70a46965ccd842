//! What a recorder knows that it missed.

use std::fmt;

use super::counts::{Code, Counts};

/// How many events were lost, by cause.
pub type Losses = Counts<Cause>;

/// Why an event is not in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A buffer of the recorder had no room.
    NoRoom,
    /// The path could not be told: not readable, or gone.
    Unresolved,
    /// A line of an imported record was cut or not understood.
    Malformed,
    /// The path is deeper or longer than the recorder follows.
    TooDeep,
    /// A table of the recorder was full.
    TableFull,
    /// One that a newer recorder counts.
    Other(u16),
}

impl Losses {
    /// The causes with their counts; none has the count 0.
    pub fn by_cause(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.iter()
    }
}

impl Code for Cause {
    fn code(self) -> u16 {
        match self {
            Self::NoRoom => 1,
            Self::Unresolved => 2,
            Self::Malformed => 3,
            Self::TooDeep => 4,
            Self::TableFull => 5,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u16) -> Self {
        match code {
            1 => Self::NoRoom,
            2 => Self::Unresolved,
            3 => Self::Malformed,
            4 => Self::TooDeep,
            5 => Self::TableFull,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("no room"),
            Self::Unresolved => f.write_str("path not told"),
            Self::Malformed => f.write_str("malformed"),
            Self::TooDeep => f.write_str("path too deep"),
            Self::TableFull => f.write_str("table full"),
            Self::Other(code) => write!(f, "cause {code}"),
        }
    }
}
