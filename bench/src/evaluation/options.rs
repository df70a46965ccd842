//! Options of `make bench`: which cells are measured, and how often.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::cells::{Cell, Mode};
use super::workloads;
use crate::condition::Condition;

/// 1 Gbit/s and 200 Mbit/s, in bytes.
pub(super) const RATES: [u64; 2] = [125_000_000, 25_000_000];
/// The round trip at which most comparisons are made.
pub(super) const USUAL_MS: u64 = 20;
const ROUND_TRIPS: [u64; 5] = [0, 5, 20, 50, 100];
const QUICK: [&str; 4] = ["python", "python-imports", "gcc", "root"];
const QUICK_MODES: [Mode; 5] = [Mode::Full, Mode::Lazy, Mode::Waits, Mode::Prefetch, Mode::Warm];
/// Numbers of containers that start at once, besides one.
const CROWDS: [usize; 2] = [8, 50];
/// Their workload: a heavy one would only measure the cores.
pub(super) const CROWD: &str = "python";
/// The workload of a fleet: many small files.
pub(super) const FLEET_RUNS: &str = "python-imports";
/// Nodes of a fleet, by default and with `--quick`.
const FLEET: usize = 64;
const QUICK_FLEET: usize = 16;

/// `make bench`.
#[derive(Debug, Clone, Default, clap::Parser)]
pub struct Options {
    /// Short run: four images, no native bundle, 20 ms only, one repetition, a small fleet
    #[arg(long)]
    pub quick: bool,
    /// Combine every round trip with every bandwidth limit, with and without squid
    #[arg(long)]
    pub cross: bool,
    /// Measure only this image; may be repeated
    #[arg(long, value_name = "NAME", value_parser = names())]
    pub image: Vec<String>,
    /// Measure only this mode; may be repeated
    #[arg(long, value_enum)]
    pub mode: Vec<Mode>,
    /// Measure only at this round trip, in milliseconds; may be repeated
    #[arg(long, value_name = "MS")]
    pub round_trip: Vec<u64>,
    /// Emulate TCP slow start on the link
    #[arg(long)]
    pub slow_start: bool,
    /// Repetitions [default: 5, or 1 with --quick]
    #[arg(long)]
    pub repetitions: Option<usize>,
    /// Containers that start at once, besides one; 0 skips this measurement; may be repeated [default: 8 and 50]
    #[arg(long, value_name = "COUNT")]
    pub containers: Vec<usize>,
    /// Nodes of the fleet; 0 skips this measurement [default: 64, or 16 with --quick]
    #[arg(long, value_name = "COUNT")]
    pub fleet: Option<usize>,
    /// Directory of records and report; an interrupted run is continued there [default: bench/out/<today>]
    #[arg(long, value_name = "DIRECTORY")]
    pub results: Option<PathBuf>,
    /// Record new traces even if an earlier run left some
    #[arg(long)]
    pub record: bool,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(workloads::ALL.iter().map(|workload| workload.name))
}

impl Options {
    pub(super) fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// Nodes of the fleet; `None` if it is not measured.
    pub(super) fn fleet(&self) -> Option<usize> {
        let selected = !(self.image.is_empty() && self.mode.is_empty() && self.round_trip.is_empty());
        let all = if self.quick { QUICK_FLEET } else { FLEET };
        self.fleet.or((!selected).then_some(all)).filter(|nodes| *nodes > 0)
    }

    /// Names of the workloads, in order.
    pub(super) fn images(&self) -> Vec<&'static str> {
        let is_selected = |name: &str| {
            if !self.image.is_empty() {
                self.image.iter().any(|image| image == name)
            } else {
                !self.quick || QUICK.contains(&name)
            }
        };
        workloads::ALL.iter().map(|workload| workload.name).filter(|name| is_selected(name)).collect()
    }

    fn modes(&self) -> Vec<Mode> {
        let all: &[Mode] = if self.quick { &QUICK_MODES } else { &Mode::ALL };
        // `--mode` overrides the selection of `--quick`.
        let all = if self.mode.is_empty() { all } else { &Mode::ALL };
        all.iter().copied().filter(|mode| self.mode.is_empty() || self.mode.contains(mode)).collect()
    }

    fn conditions(&self) -> Vec<Condition> {
        let slow_start = self.slow_start;
        self.links().into_iter().map(|link| Condition { slow_start, ..link }).collect()
    }

    fn links(&self) -> Vec<Condition> {
        let round_trips = if !self.round_trip.is_empty() {
            self.round_trip.clone()
        } else if self.quick {
            vec![USUAL_MS]
        } else {
            ROUND_TRIPS.to_vec()
        };
        let mut conditions: Vec<Condition> = round_trips.iter().map(|ms| Condition::latency(*ms)).collect();
        for ms in round_trips.into_iter().filter(|ms| self.cross || (*ms == USUAL_MS && !self.quick)) {
            let direct = RATES.map(|rate| Condition { bytes_per_second: Some(rate), ..Condition::latency(ms) });
            conditions.extend(direct);
            conditions.push(Condition { squid: true, ..Condition::latency(ms) });
            if self.cross {
                conditions.extend(direct.map(|condition| Condition { squid: true, ..condition }));
            }
        }
        conditions
    }

    fn crowds(&self) -> Vec<usize> {
        let all: &[usize] = if !self.containers.is_empty() {
            &self.containers
        } else if self.quick {
            &CROWDS[1..]
        } else {
            &CROWDS
        };
        all.iter().copied().filter(|count| *count > 1).collect()
    }

    /// All cells of one repetition, grouped by workload and condition.
    pub(super) fn groups(&self) -> Vec<Vec<Cell>> {
        let (images, modes) = (self.images(), self.modes());
        let mut groups = Vec::new();
        for condition in self.conditions() {
            for image in &images {
                groups.push(modes.iter().map(|mode| Cell::new(image, *mode, condition)).collect());
            }
        }
        if images.contains(&CROWD) {
            for containers in self.crowds() {
                let modes = modes.iter().filter(|mode| [Mode::Lazy, Mode::Prefetch].contains(mode));
                let modes = modes.filter(|mode| !self.quick || **mode == Mode::Prefetch);
                let cell = |mode: &Mode| Cell { containers, ..Cell::new(CROWD, *mode, Condition::latency(USUAL_MS)) };
                groups.push(modes.map(cell).collect());
            }
        }
        groups.retain(|group: &Vec<Cell>| !group.is_empty());
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(options: &Options) -> Vec<Cell> {
        options.groups().concat()
    }

    #[test]
    fn options_select_what_is_measured() {
        let parse = |text: &[&str]| <Options as clap::Parser>::parse_from([&["bench"][..], text].concat());
        for (text, cell_count, repetitions, fleet) in [
            // 9 images, 6 modes, 8 conditions, and two crowds in two modes.
            (vec![], 9 * 6 * 8 + 4, 5, Some(64)),
            (vec!["--cross"], 9 * 6 * 30 + 4, 5, Some(64)),
            (vec!["--quick"], 4 * 5 + 1, 1, Some(16)),
            (vec!["--quick", "--fleet", "0", "--containers", "0"], 4 * 5, 1, None),
            (vec!["--image", "root", "--mode", "lazy", "--round-trip", "0"], 1, 5, None),
            (vec!["--quick", "--mode", "native", "--image", "root", "--repetitions", "3"], 1, 3, None),
            (vec!["--round-trip", "20", "--image", "gcc"], 6 * 4, 5, None),
        ] {
            let options = parse(&text);
            let found = cells(&options);
            assert_eq!(found.len(), cell_count, "{text:?}");
            assert_eq!((options.repetitions(), options.fleet()), (repetitions, fleet), "{text:?}");
            for (number, cell) in found.iter().enumerate() {
                assert!(!found[..number].contains(cell), "twice: {cell:?}");
            }
        }
        assert!(<Options as clap::Parser>::try_parse_from(["bench", "--image", "nothing"]).is_err());
    }

    #[test]
    fn slow_start_applies_to_every_condition() {
        for slow_start in [false, true] {
            let options = Options { slow_start, cross: true, ..Options::default() };
            assert!(options.conditions().iter().all(|condition| condition.slow_start == slow_start));
        }
    }

    #[test]
    fn cells_of_a_group_differ_only_in_mode() {
        for group in (Options { cross: true, ..Options::default() }).groups() {
            assert!(group.iter().all(|cell| cell.with_mode(Mode::Lazy) == group[0].with_mode(Mode::Lazy)), "{group:?}");
        }
    }
}
