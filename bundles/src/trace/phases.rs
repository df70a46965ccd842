//! Begin and end of the phases of a container's life.

use serde::Serialize;

use crate::phase::Phase;

/// When the phases of a container's life begin. Set-up begins at time zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Phases {
    /// Microseconds from time zero to the first exec in the container's root. The OCI runtime's set-up is
    /// before.
    pub start_up_us: u64,
    /// Microseconds from time zero to the end of the start-up; `None` if the recording ended before.
    pub main_us: Option<u64>,
}

impl Phases {
    /// The phase at `at_us` microseconds since time zero.
    pub fn phase_at(&self, at_us: u64) -> Phase {
        match self.main_us {
            _ if at_us < self.start_up_us => Phase::SetUp,
            Some(main_us) if at_us >= main_us => Phase::Main,
            _ => Phase::StartUp,
        }
    }
}

/// The phase marks of a file, as they are read.
#[derive(Debug, Default)]
pub(super) struct Marks {
    start_up: Option<u64>,
    main: Option<u64>,
}

/// The number in a file for the beginning of a phase. Set-up has none, because it begins at time zero.
pub(super) fn code(phase: Phase) -> Option<u16> {
    match phase {
        Phase::SetUp => None,
        Phase::StartUp => Some(1),
        Phase::Main => Some(2),
    }
}

impl Marks {
    /// Adds a mark. The earliest of each phase counts; unknown phases are of newer programs.
    pub(super) fn add(&mut self, code: u16, at_us: u64) {
        let mark = match code {
            1 => &mut self.start_up,
            2 => &mut self.main,
            _ => return,
        };
        *mark = Some(mark.map_or(at_us, |known| known.min(at_us)));
    }

    /// The phases. Files of version 1.0 have no marks: they begin at the first exec.
    pub(super) fn phases(&self) -> Phases {
        Phases { start_up_us: self.start_up.unwrap_or(0), main_us: self.main }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_belongs_to_one_phase() {
        use Phase::{Main, SetUp, StartUp};
        for (start_up_us, main_us, expected) in [
            (0, None, [StartUp, StartUp, StartUp, StartUp]),
            (10, None, [SetUp, SetUp, StartUp, StartUp]),
            (10, Some(20), [SetUp, SetUp, StartUp, Main]),
            (0, Some(0), [Main, Main, Main, Main]),
            // Marks in the wrong order: set-up ends where start-up begins, whatever the other mark says.
            (20, Some(10), [SetUp, SetUp, SetUp, Main]),
        ] {
            let phases = Phases { start_up_us, main_us };
            assert_eq!([0, 9, 19, 20].map(|at_us| phases.phase_at(at_us)), expected, "{phases:?}");
        }
    }

    #[test]
    fn earliest_marks_count_and_unknown_ones_are_ignored() {
        let mut marks = Marks::default();
        assert_eq!(marks.phases(), Phases::default());
        for (code, at_us) in [(2, 50), (1, 7), (1, 9), (2, 40), (3, 1), (0, 1)] {
            marks.add(code, at_us);
        }
        assert_eq!(marks.phases(), Phases { start_up_us: 7, main_us: Some(40) });
    }
}
