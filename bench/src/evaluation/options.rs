//! What is measured, and how often.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::cells::{Cell, Mode};
use super::workloads;
use crate::condition::Condition;

/// 1 Gbit/s and 200 Mbit/s, in bytes.
pub(super) const RATES: [u64; 2] = [125_000_000, 25_000_000];
/// The distance at which most is compared.
pub(super) const USUAL_MS: u64 = 20;
const ROUND_TRIPS: [u64; 5] = [0, 5, 20, 50, 100];
const QUICK: [&str; 4] = ["python", "python-imports", "gcc", "root"];
const QUICK_MODES: [Mode; 5] = [Mode::Full, Mode::Lazy, Mode::Waits, Mode::Prefetch, Mode::Warm];
/// How many containers start at once, apart from one.
const CROWDS: [usize; 2] = [8, 50];
/// What these run: of many that need much at once one would measure the cores alone.
pub(super) const CROWD: &str = "python";
/// What a fleet's nodes run: many small files.
pub(super) const FLEET_RUNS: &str = "python-imports";
/// Nodes of a fleet, and of that of a quick run.
const FLEET: usize = 64;
const QUICK_FLEET: usize = 16;

/// `make bench`.
#[derive(Debug, Clone, Default, clap::Parser)]
pub struct Options {
    /// Few images, no native bundle, 20 ms only, one repetition, a small fleet
    #[arg(long)]
    pub quick: bool,
    /// Every round trip with each limit of bandwidth, with and without squid
    #[arg(long)]
    pub cross: bool,
    /// Only these images
    #[arg(long, value_name = "NAME", value_parser = names())]
    pub image: Vec<String>,
    /// Only these modes
    #[arg(long, value_enum)]
    pub mode: Vec<Mode>,
    /// Only at these round trips, in milliseconds
    #[arg(long, value_name = "MS")]
    pub round_trip: Vec<u64>,
    /// Connections over the line open as slowly as TCP's do
    #[arg(long)]
    pub slow_start: bool,
    /// How often everything is repeated; 5, or 1 with --quick
    #[arg(long)]
    pub repetitions: Option<usize>,
    /// So many containers at once, beside one; 0: no such measurement
    #[arg(long, value_name = "COUNT")]
    pub containers: Vec<usize>,
    /// Nodes of the fleet; 0: no such measurement
    #[arg(long, value_name = "COUNT")]
    pub fleet: Option<usize>,
    /// Where results are, and go on, if they are not of today
    #[arg(long, value_name = "DIRECTORY")]
    pub results: Option<PathBuf>,
    /// Record anew what bundles are made of, though there are traces of an earlier run
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

    /// Nodes of the fleet; none if it is not to be measured.
    pub(super) fn fleet(&self) -> Option<usize> {
        let selected = !(self.image.is_empty() && self.mode.is_empty() && self.round_trip.is_empty());
        let all = if self.quick { QUICK_FLEET } else { FLEET };
        self.fleet.or((!selected).then_some(all)).filter(|nodes| *nodes > 0)
    }

    /// Names of the workloads, in order.
    pub(super) fn images(&self) -> Vec<&'static str> {
        let wanted = |name: &str| match (self.image.is_empty(), self.quick) {
            (false, _) => self.image.iter().any(|image| image == name),
            (true, true) => QUICK.contains(&name),
            (true, false) => true,
        };
        workloads::ALL.iter().map(|workload| workload.name).filter(|name| wanted(name)).collect()
    }

    fn modes(&self) -> Vec<Mode> {
        let all: &[Mode] = if self.quick { &QUICK_MODES } else { &Mode::ALL };
        let wanted = |mode: &Mode| self.mode.is_empty() || self.mode.contains(mode);
        // One that was asked for is measured, also where a quick run would leave it out.
        let all = if self.mode.is_empty() { all } else { &Mode::ALL };
        all.iter().copied().filter(wanted).collect()
    }

    fn conditions(&self) -> Vec<Condition> {
        let slow_start = self.slow_start;
        self.lines().into_iter().map(|line| Condition { slow_start, ..line }).collect()
    }

    fn lines(&self) -> Vec<Condition> {
        let far = match (self.round_trip.is_empty(), self.quick) {
            (false, _) => self.round_trip.clone(),
            (true, true) => vec![USUAL_MS],
            (true, false) => ROUND_TRIPS.to_vec(),
        };
        let mut conditions: Vec<Condition> = far.iter().map(|ms| Condition::of(*ms)).collect();
        for ms in far.into_iter().filter(|ms| self.cross || (*ms == USUAL_MS && !self.quick)) {
            let direct = RATES.map(|rate| Condition { bytes_per_second: Some(rate), ..Condition::of(ms) });
            conditions.extend(direct);
            conditions.push(Condition { squid: true, ..Condition::of(ms) });
            if self.cross {
                conditions.extend(direct.map(|condition| Condition { squid: true, ..condition }));
            }
        }
        conditions
    }

    fn crowds(&self) -> Vec<usize> {
        let all: &[usize] = match (self.containers.is_empty(), self.quick) {
            (false, _) => &self.containers,
            (true, true) => &CROWDS[1..],
            (true, false) => &CROWDS,
        };
        all.iter().copied().filter(|count| *count > 1).collect()
    }

    /// All cells of one repetition, those together that share workload and condition.
    pub(super) fn groups(&self) -> Vec<Vec<Cell>> {
        let (images, modes) = (self.images(), self.modes());
        let mut groups = Vec::new();
        for condition in self.conditions() {
            for image in &images {
                groups.push(modes.iter().map(|mode| Cell::of(image, *mode, condition)).collect());
            }
        }
        if images.contains(&CROWD) {
            for containers in self.crowds() {
                let modes = modes.iter().filter(|mode| [Mode::Lazy, Mode::Prefetch].contains(mode));
                let modes = modes.filter(|mode| !self.quick || **mode == Mode::Prefetch);
                let cell = |mode: &Mode| Cell { containers, ..Cell::of(CROWD, *mode, Condition::of(USUAL_MS)) };
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
        let of = |text: &[&str]| <Options as clap::Parser>::parse_from([&["bench"][..], text].concat());
        for (text, cells_wanted, repetitions, fleet) in [
            // 9 images, 6 modes, 8 conditions, and two crowds in two modes.
            (vec![], 9 * 6 * 8 + 4, 5, Some(64)),
            (vec!["--cross"], 9 * 6 * 30 + 4, 5, Some(64)),
            (vec!["--quick"], 4 * 5 + 1, 1, Some(16)),
            (vec!["--quick", "--fleet", "0", "--containers", "0"], 4 * 5, 1, None),
            (vec!["--image", "root", "--mode", "lazy", "--round-trip", "0"], 1, 5, None),
            (vec!["--quick", "--mode", "native", "--image", "root", "--repetitions", "3"], 1, 3, None),
            (vec!["--round-trip", "20", "--image", "gcc"], 6 * 4, 5, None),
        ] {
            let options = of(&text);
            let found = cells(&options);
            assert_eq!(found.len(), cells_wanted, "{text:?}");
            assert_eq!((options.repetitions(), options.fleet()), (repetitions, fleet), "{text:?}");
            for (number, cell) in found.iter().enumerate() {
                assert!(!found[..number].contains(cell), "twice: {cell:?}");
            }
        }
        assert!(<Options as clap::Parser>::try_parse_from(["bench", "--image", "nothing"]).is_err());
    }

    #[test]
    fn lines_open_slowly_if_that_was_asked_for() {
        for slow_start in [false, true] {
            let options = Options { slow_start, cross: true, ..Options::default() };
            assert!(options.conditions().iter().all(|condition| condition.slow_start == slow_start));
        }
    }

    #[test]
    fn a_group_shares_all_but_the_mode() {
        for group in (Options { cross: true, ..Options::default() }).groups() {
            assert!(group.iter().all(|cell| cell.by(Mode::Lazy) == group[0].by(Mode::Lazy)), "{group:?}");
        }
    }
}
