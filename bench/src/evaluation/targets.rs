//! What is to be reached, of what was measured: every target is a ratio within the run, or a share.

use super::cells::{Cell, Mode};
use super::options::{CROWD, RATES, USUAL_MS};
use super::records::{Records, Run};
use super::workloads;
use crate::condition::Condition;
use crate::report::Target;

/// Whole time with prefetch against the limit.
const OF_LIMIT: f64 = 1.2;
/// Of ROOT against the better of full pull and lazy; of Python's images against lazy.
const ROOT: f64 = 0.5;
const PYTHON: f64 = 0.25;
/// No image and no condition may be slower than lazy.
const NEVER_SLOWER: f64 = 1.02;
/// Round trips of the whole time with prefetch.
const SLOPE: f64 = 5.0;
/// How many times fewer requests.
const FEWER: f64 = 50.0;
const WASTE: f64 = 0.05;
/// Bytes for many containers at once against those for one.
const CROWD_BYTES: f64 = 1.05;
/// How many these are.
const CROWD_SIZE: usize = 50;

/// The two ways to prefetch, and how they are told apart.
const HOW: [(Mode, &str); 2] = [(Mode::Prefetch, ""), (Mode::Waits, ", start waits")];

fn whole(run: &Run) -> f64 {
    run.whole_s
}

fn requests(run: &Run) -> f64 {
    run.origin().requests as f64
}

fn origin_bytes(run: &Run) -> f64 {
    run.origin().bytes as f64
}

/// All targets of which something was measured.
pub(super) fn of(records: &Records) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut at_most = |name: String, value: Option<f64>, limit: f64| {
        targets.extend(value.map(|value| Target::at_most(&name, value, limit)));
    };
    let usual = Condition::of(USUAL_MS);
    let fast = Condition { bytes_per_second: Some(RATES[0]), ..usual };
    let conditions = conditions(records);
    for (workload, (mode, how)) in workloads::ALL.iter().flat_map(|workload| HOW.map(|how| (workload, how))) {
        let name = workload.name;
        let prefetch = Cell::of(name, mode, usual);
        let lazy = prefetch.by(Mode::Lazy);
        for condition in [usual, fast] {
            let cell = Cell { condition, ..prefetch.clone() };
            at_most(format!("{}{how}: whole time / limit", cell.name()), records.against_limit(&cell), OF_LIMIT);
        }
        if name == "root" {
            let others = [&lazy, &prefetch.by(Mode::Full)];
            let ratio = records.against_better(&prefetch, others, whole);
            at_most(format!("{}{how}: whole time / better of full pull and lazy", prefetch.name()), ratio, ROOT);
        }
        if workload.is_python() {
            let ratio = records.ratio(&prefetch, &lazy, whole);
            at_most(format!("{}{how}: whole time / lazy", prefetch.name()), ratio, PYTHON);
        }
        for condition in &conditions {
            let prefetch = Cell { condition: *condition, ..prefetch.clone() };
            let ratio = records.ratio(&prefetch, &prefetch.by(Mode::Lazy), whole);
            at_most(format!("{}{how}: never slower than lazy", prefetch.name()), ratio, NEVER_SLOWER);
        }
        let slope = records.slope(name, mode, &round_trips(&conditions));
        at_most(format!("{name}{how}: round trips that each one more costs"), slope, SLOPE);
        // What the bundle holds is one thing, what comes over the line for it another: some may come twice.
        let surplus = records.ratio(&lazy, &prefetch, origin_bytes).map(|needed| 1.0 - needed);
        at_most(format!("{}{how}: share of the bytes that lazy does without", prefetch.name()), surplus, WASTE);
    }
    for workload in &workloads::ALL {
        let waste = records.facts(workload.name).map(|facts| facts.waste);
        at_most(format!("{}: share of the bundle's bytes that is wasted", workload.name), waste, WASTE);
    }
    let one = Cell::of(CROWD, Mode::Prefetch, usual);
    let crowd = Cell { containers: CROWD_SIZE, ..one.clone() };
    at_most(
        format!("{}: bytes from the origin / one", crowd.name()),
        records.ratio(&crowd, &one, origin_bytes),
        CROWD_BYTES,
    );
    for (name, (mode, how)) in
        ["root", "science", "python-imports"].into_iter().flat_map(|name| HOW.map(|how| (name, how)))
    {
        let lazy = Cell::of(name, Mode::Lazy, usual);
        if let Some(ratio) = records.ratio(&lazy, &lazy.by(mode), requests) {
            targets.push(Target::at_least(&format!("{}{how}: requests, lazy / prefetch", lazy.name()), ratio, FEWER));
        }
    }
    targets
}

/// Those of single containers, in the order in which they were measured.
pub(super) fn conditions(records: &Records) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for run in records.runs().filter(|run| run.cell.containers == 1) {
        if !conditions.contains(&run.cell.condition) {
            conditions.push(run.cell.condition);
        }
    }
    conditions
}

/// Of conditions with nothing else in the way.
pub(super) fn round_trips(conditions: &[Condition]) -> Vec<u64> {
    let free = |condition: &&Condition| **condition == Condition::of(condition.round_trip_ms);
    conditions.iter().filter(free).map(|condition| condition.round_trip_ms).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::compare::tests::facts;
    use super::super::prepare::Facts;
    use super::super::records::tests::{records, run};
    use super::super::records::{Record, Wire};
    use super::*;

    /// A workload's runs at 20 ms by whole time and requests.
    fn runs(name: &str, all: [(Mode, f64, u64); 4]) -> Vec<Record> {
        let one = |(mode, whole, requests): (Mode, f64, u64)| {
            let cell = Cell::of(name, mode, Condition::of(USUAL_MS));
            Record::Run(Run { client: Wire { requests, bytes: 1000 }, ..run(cell, 1, whole) })
        };
        all.map(one).into()
    }

    fn found(records: &Records) -> Vec<(String, f64, bool)> {
        of(records).into_iter().map(|target| (target.name, target.value, target.ok)).collect()
    }

    #[test]
    fn each_target_is_of_what_it_says() {
        let modes = |full, lazy, prefetch, warm| {
            [(Mode::Full, full, 0), (Mode::Lazy, lazy, 1000), (Mode::Prefetch, prefetch, 10), (Mode::Warm, warm, 0)]
        };
        let mut all = runs("root", modes(8.0, 16.0, 4.0, 2.0));
        for record in &mut all {
            if let Record::Run(run) = record
                && run.cell.mode == Mode::Prefetch
            {
                run.daemon.bytes = 1000;
            }
        }
        all.extend(runs("python", modes(4.0, 4.0, 2.0, 2.0)));
        let waits = run(Cell::of("python", Mode::Waits, Condition::of(USUAL_MS)), 1, 5.0);
        all.push(Record::Run(Run { client: Wire { requests: 9, bytes: 1000 }, ..waits }));
        all.push(Record::Facts(Facts { waste: 0.0625, ..facts("root") }));
        all.push(Record::Facts(facts("python")));
        let far = Cell::of("root", Mode::Prefetch, Condition::of(120));
        all.push(Record::Run(run(far, 1, 4.25)));
        let crowd = Cell { containers: 50, ..Cell::of("python", Mode::Prefetch, Condition::of(USUAL_MS)) };
        all.push(Record::Run(Run { daemon: Wire { requests: 3, bytes: 2000 }, ..run(crowd, 1, 9.0) }));
        let expected = [
            ("python, 20 ms: whole time / limit", 1.0, true),
            ("python, 20 ms: whole time / lazy", 0.5, false),
            ("python, 20 ms: never slower than lazy", 0.5, true),
            ("python, 20 ms: share of the bytes that lazy does without", 0.0, true),
            ("python, 20 ms, start waits: whole time / limit", 2.5, false),
            ("python, 20 ms, start waits: whole time / lazy", 1.25, false),
            ("python, 20 ms, start waits: never slower than lazy", 1.25, false),
            ("python, 20 ms, start waits: share of the bytes that lazy does without", 0.0, true),
            ("root, 20 ms: whole time / limit", 2.0, false),
            ("root, 20 ms: whole time / better of full pull and lazy", 0.5, true),
            ("root, 20 ms: never slower than lazy", 0.25, true),
            ("root: round trips that each one more costs", 2.5, true),
            ("root, 20 ms: share of the bytes that lazy does without", 0.5, false),
            ("python: share of the bundle's bytes that is wasted", 0.0, true),
            ("root: share of the bundle's bytes that is wasted", 0.0625, false),
            ("python, 20 ms, 50 containers: bytes from the origin / one", 2.0, false),
            ("root, 20 ms: requests, lazy / prefetch", 100.0, true),
        ];
        assert_eq!(found(&records(all)), expected.map(|(name, value, ok)| (name.to_owned(), value, ok)));
    }

    #[test]
    fn nothing_measured_means_no_target() {
        assert!(of(&records(Vec::new())).is_empty());
        let squid = Condition { squid: true, ..Condition::of(5) };
        assert_eq!(round_trips(&[squid, Condition::of(7)]), [7]);
    }
}
