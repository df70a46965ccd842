//! Figures computed from records: medians over repetitions, and ratios within each repetition.

use super::cells::{Cell, Mode};
use super::records::{Records, Run};
use crate::condition::Condition;
use crate::statistics::{Spread, spread};

/// Selects one figure of a run.
pub(super) type Figure = fn(&Run) -> f64;

/// Round trips that every mode needs.
const ROUND_TRIPS: f64 = 3.0;

impl Records {
    /// Median and range of a figure over all repetitions.
    pub(super) fn spread(&self, cell: &Cell, figure: Figure) -> Option<Spread> {
        spread(self.runs_of(cell).map(figure).collect())
    }

    pub(super) fn median(&self, cell: &Cell, figure: Figure) -> Option<f64> {
        self.spread(cell, figure).map(|found| found.median)
    }

    /// The median ratio of a figure to that of another cell.
    pub(super) fn ratio(&self, cell: &Cell, other: &Cell, figure: Figure) -> Option<f64> {
        self.against(cell, figure, |repetition| self.run(other, repetition).map(figure))
    }

    /// Like [`Records::ratio`], but against the better of two cells.
    pub(super) fn against_better(&self, cell: &Cell, others: [&Cell; 2], figure: Figure) -> Option<f64> {
        let [first, second] = others;
        let best = |repetition| Some(figure(self.run(first, repetition)?).min(figure(self.run(second, repetition)?)));
        self.against(cell, figure, best)
    }

    /// The total time of a prefetched start against its lower bound: the warm start, or the transfer of the needed bytes plus
    /// [`ROUND_TRIPS`], whichever is longer.
    pub(super) fn against_limit(&self, cell: &Cell) -> Option<f64> {
        let bytes = self.facts(&cell.workload)?.needed_bytes;
        let transfer = cell.condition.bytes_per_second.map_or(0.0, |rate| bytes / rate as f64);
        let network = transfer + ROUND_TRIPS * cell.condition.round_trip().as_secs_f64();
        let warm = cell.with_mode(Mode::Warm);
        self.against(cell, |run| run.whole_s, |repetition| Some(self.run(&warm, repetition)?.whole_s.max(network)))
    }

    /// By how many round trips the total time grows per added round trip, between the shortest and the longest of
    /// `round_trips`.
    pub(super) fn slope(&self, workload: &str, mode: Mode, round_trips: &[u64]) -> Option<f64> {
        let near = round_trips.iter().min()?;
        let far = round_trips.iter().max()?;
        let whole = |ms: u64| self.median(&Cell::new(workload, mode, Condition::latency(ms)), |run| run.whole_s);
        let seconds = whole(*far)? - whole(*near)?;
        (far > near).then(|| seconds * 1e3 / (far - near) as f64)
    }

    fn run(&self, cell: &Cell, repetition: usize) -> Option<&Run> {
        self.runs().find(|run| run.cell == *cell && run.repetition == repetition)
    }

    fn against(&self, cell: &Cell, figure: Figure, other: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let ratios = self.runs_of(cell).filter_map(|run| Some(figure(run) / other(run.repetition)?));
        Some(spread(ratios.collect())?.median)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::prepare::Facts;
    use super::super::records::Record;
    use super::super::records::tests::{records, run};
    use super::*;

    fn cell(mode: Mode, ms: u64) -> Cell {
        Cell::new("root", mode, Condition::latency(ms))
    }

    fn runs(all: &[(Mode, u64, usize, f64)]) -> Vec<Record> {
        all.iter()
            .map(|(mode, ms, repetition, whole)| Record::Run(run(cell(*mode, *ms), *repetition, *whole)))
            .collect()
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        let records = records(runs(&[
            (Mode::Prefetch, 20, 1, 1.0),
            (Mode::Prefetch, 20, 2, 9.0),
            (Mode::Prefetch, 20, 3, 1.0),
            (Mode::Prefetch, 20, 4, 100.0),
            (Mode::Lazy, 20, 3, 10.0),
            (Mode::Lazy, 20, 2, 10.0),
            (Mode::Lazy, 20, 1, 2.0),
            (Mode::Full, 20, 1, 20.0),
            (Mode::Full, 20, 2, 3.0),
            (Mode::Full, 20, 3, 4.0),
        ]));
        let whole: Figure = |run| run.whole_s;
        let prefetch = cell(Mode::Prefetch, 20);
        assert_eq!(records.ratio(&prefetch, &cell(Mode::Lazy, 20), whole), Some(0.5));
        assert_eq!(records.against_better(&prefetch, [&cell(Mode::Full, 20), &cell(Mode::Lazy, 20)], whole), Some(0.5));
        assert_eq!(records.ratio(&prefetch, &cell(Mode::Lazy, 50), whole), None);
        assert_eq!(records.median(&prefetch, whole), Some(9.0));
    }

    #[test]
    fn slope_is_in_round_trips() {
        let records = records(runs(&[(Mode::Prefetch, 0, 1, 1.0), (Mode::Prefetch, 100, 1, 1.5)]));
        assert_eq!(records.slope("root", Mode::Prefetch, &[100, 0, 20]), Some(5.0));
        assert_eq!(records.slope("root", Mode::Prefetch, &[100]), None);
        assert_eq!(records.slope("root", Mode::Lazy, &[100, 0]), None);
    }

    #[test]
    fn the_limit_is_the_warm_start_or_the_network() {
        let slow = Condition { bytes_per_second: Some(25_000_000), ..Condition::latency(20) };
        for (condition, warm, bytes, expected) in [
            (Condition::latency(20), 2.0, 1e9, 2.0),
            (Condition::latency(1000), 2.0, 0.0, 4.0 / 3.0),
            (slow, 0.5, 48_500_000.0, 2.0),
            (slow, 8.0, 48_500_000.0, 0.5),
        ] {
            let at = |mode| Cell::new("root", mode, condition);
            let facts = Facts { needed_bytes: bytes, ..facts("root") };
            let records = records(vec![
                Record::Facts(facts),
                Record::Run(run(at(Mode::Prefetch), 1, 4.0)),
                Record::Run(run(at(Mode::Warm), 1, warm)),
            ]);
            assert_eq!(records.against_limit(&at(Mode::Prefetch)), Some(expected), "{}", condition.name());
        }
    }

    pub(in super::super) fn facts(workload: &str) -> Facts {
        Facts {
            workload: workload.to_owned(),
            image_bytes: 100_000_000,
            files: 0,
            objects: 0,
            packed: 0,
            packs: 0,
            bundle_bytes: 0,
            raw_bytes: 0,
            needed_bytes: 0.0,
            coverage: 1.0,
            byte_coverage: 1.0,
            waste: 0.0,
        }
    }
}
