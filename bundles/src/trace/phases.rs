//! The parts of a container's life.

use std::fmt;

use serde::Serialize;

/// Where the parts of a container's life begin. The OCI runtime's set-up begins at time zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Phases {
    /// Microseconds from time zero to the first exec in the container's root. What is before is the OCI runtime's.
    pub start_up_us: u64,
    /// Microseconds from time zero to the end of the start-up; `None` if the recording ended within it.
    pub main_us: Option<u64>,
}

/// A part of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The OCI runtime prepares the container.
    SetUp,
    /// The container's programs start.
    StartUp,
    /// The container does what it was started for.
    Main,
}

impl Phases {
    /// The part in which `at_us` microseconds from time zero are.
    pub fn of(&self, at_us: u64) -> Phase {
        match self.main_us {
            _ if at_us < self.start_up_us => Phase::SetUp,
            Some(main_us) if at_us >= main_us => Phase::Main,
            _ => Phase::StartUp,
        }
    }
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

/// The marks of a file, each where a part begins, as they are read.
#[derive(Debug, Default)]
pub(super) struct Marks {
    start_up: Option<u64>,
    main: Option<u64>,
}

/// The number that stands for the beginning of a part. Set-up has none, it begins at time zero.
pub(super) fn code(phase: Phase) -> Option<u16> {
    match phase {
        Phase::SetUp => None,
        Phase::StartUp => Some(1),
        Phase::Main => Some(2),
    }
}

impl Marks {
    /// Notes a mark, of which the earliest of its kind counts. Newer programs may have others.
    pub(super) fn add(&mut self, code: u16, at_us: u64) {
        let mark = match code {
            1 => &mut self.start_up,
            2 => &mut self.main,
            _ => return,
        };
        *mark = Some(mark.map_or(at_us, |known| known.min(at_us)));
    }

    /// What they say. A file of version 1.0 has none: it begins at the first exec.
    pub(super) fn phases(&self) -> Phases {
        Phases { start_up_us: self.start_up.unwrap_or(0), main_us: self.main }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_one_phase() {
        use Phase::{Main, SetUp, StartUp};
        for (start_up_us, main_us, expected) in [
            (0, None, [StartUp, StartUp, StartUp, StartUp]),
            (10, None, [SetUp, SetUp, StartUp, StartUp]),
            (10, Some(20), [SetUp, SetUp, StartUp, Main]),
            (0, Some(0), [Main, Main, Main, Main]),
            // Marks in the wrong order: set-up ends where start-up begins, whatever the other says.
            (20, Some(10), [SetUp, SetUp, SetUp, Main]),
        ] {
            let phases = Phases { start_up_us, main_us };
            assert_eq!([0, 9, 19, 20].map(|at_us| phases.of(at_us)), expected, "{phases:?}");
        }
    }

    #[test]
    fn the_earliest_mark_counts_and_unknown_ones_do_not() {
        let mut marks = Marks::default();
        assert_eq!(marks.phases(), Phases::default());
        for (code, at_us) in [(2, 50), (1, 7), (1, 9), (2, 40), (3, 1), (0, 1)] {
            marks.add(code, at_us);
        }
        assert_eq!(marks.phases(), Phases { start_up_us: 7, main_us: Some(40) });
    }
}
