//! The targets of the evaluation. Every target is a ratio within one run, or a share: none depends on the machine's speed.

use super::cells::{Cell, Mode};
use super::options::{CROWD, RATES, USUAL_MS};
use super::records::{Records, Run};
use super::workloads;
use crate::condition::Condition;
use crate::report::Target;

/// Total time with prefetch against its lower bound.
const OF_LIMIT: f64 = 1.2;
/// Total time of ROOT against the better of full pull and lazy, and of the Python images against lazy.
const ROOT: f64 = 0.5;
const PYTHON: f64 = 0.25;
/// Prefetch may not be slower than lazy for any image and condition; this much is noise.
const NEVER_SLOWER: f64 = 1.02;
/// Growth of the total time with prefetch per added round trip.
const SLOPE: f64 = 5.0;
/// Factor by which prefetch reduces the requests.
const FEWER: f64 = 50.0;
/// Share of transferred bytes that no start needs.
const WASTE: f64 = 0.05;
/// Bytes from the origin for many containers at once against those for one.
const CROWD_BYTES: f64 = 1.05;
/// Number of these containers.
const CROWD_SIZE: usize = 50;

/// The prefetch modes, and their suffix in the names of targets.
const PREFETCH_MODES: [(Mode, &str); 2] = [(Mode::Prefetch, ""), (Mode::Waits, ", start waits")];

fn whole(run: &Run) -> f64 {
    run.whole_s
}

fn requests(run: &Run) -> f64 {
    run.origin().requests as f64
}

fn origin_bytes(run: &Run) -> f64 {
    run.origin().bytes as f64
}

/// All targets whose figures were measured.
pub(super) fn check(records: &Records) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut at_most = |name: String, value: Option<f64>, limit: f64| {
        targets.extend(value.map(|value| Target::at_most(&name, value, limit)));
    };
    let usual = Condition::latency(USUAL_MS);
    let fast = Condition { bytes_per_second: Some(RATES[0]), ..usual };
    let conditions = conditions(records);
    for (workload, (mode, suffix)) in
        workloads::ALL.iter().flat_map(|workload| PREFETCH_MODES.map(|mode| (workload, mode)))
    {
        let name = workload.name;
        let prefetch = Cell::new(name, mode, usual);
        let lazy = prefetch.with_mode(Mode::Lazy);
        for condition in [usual, fast] {
            let cell = Cell { condition, ..prefetch.clone() };
            at_most(format!("{}{suffix}: total time / limit", cell.name()), records.against_limit(&cell), OF_LIMIT);
        }
        if name == "root" {
            let others = [&lazy, &prefetch.with_mode(Mode::Full)];
            let ratio = records.against_better(&prefetch, others, whole);
            at_most(format!("{}{suffix}: total time / better of full pull and lazy", prefetch.name()), ratio, ROOT);
        }
        if workload.is_python() {
            let ratio = records.ratio(&prefetch, &lazy, whole);
            at_most(format!("{}{suffix}: total time / lazy", prefetch.name()), ratio, PYTHON);
        }
        for condition in &conditions {
            let prefetch = Cell { condition: *condition, ..prefetch.clone() };
            let ratio = records.ratio(&prefetch, &prefetch.with_mode(Mode::Lazy), whole);
            at_most(format!("{}{suffix}: never slower than lazy", prefetch.name()), ratio, NEVER_SLOWER);
        }
        let slope = records.slope(name, mode, &round_trips(&conditions));
        at_most(format!("{name}{suffix}: growth per round trip, in round trips"), slope, SLOPE);
        // Unlike the waste of the bundle, this includes objects that are transferred twice.
        let surplus = records.ratio(&lazy, &prefetch, origin_bytes).map(|needed| 1.0 - needed);
        at_most(
            format!("{}{suffix}: share of transferred bytes that lazy does not need", prefetch.name()),
            surplus,
            WASTE,
        );
    }
    for workload in &workloads::ALL {
        let waste = records.facts(workload.name).map(|facts| facts.waste);
        at_most(format!("{}: wasted share of the bundle", workload.name), waste, WASTE);
    }
    let one = Cell::new(CROWD, Mode::Prefetch, usual);
    let crowd = Cell { containers: CROWD_SIZE, ..one.clone() };
    at_most(
        format!("{}: bytes from the origin / one", crowd.name()),
        records.ratio(&crowd, &one, origin_bytes),
        CROWD_BYTES,
    );
    for (name, (mode, suffix)) in
        ["root", "science", "python-imports"].into_iter().flat_map(|name| PREFETCH_MODES.map(|mode| (name, mode)))
    {
        let lazy = Cell::new(name, Mode::Lazy, usual);
        if let Some(ratio) = records.ratio(&lazy, &lazy.with_mode(mode), requests) {
            targets.push(Target::at_least(
                &format!("{}{suffix}: requests, lazy / prefetch", lazy.name()),
                ratio,
                FEWER,
            ));
        }
    }
    targets
}

/// Conditions under which single containers were measured, in that order.
pub(super) fn conditions(records: &Records) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for run in records.runs().filter(|run| run.cell.containers == 1) {
        if !conditions.contains(&run.cell.condition) {
            conditions.push(run.cell.condition);
        }
    }
    conditions
}

/// Round trips of the conditions without any other limit.
pub(super) fn round_trips(conditions: &[Condition]) -> Vec<u64> {
    let free = |condition: &&Condition| **condition == Condition::latency(condition.round_trip_ms);
    conditions.iter().filter(free).map(|condition| condition.round_trip_ms).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::compare::tests::facts;
    use super::super::prepare::Facts;
    use super::super::records::Record;
    use super::super::records::tests::{records, run};
    use super::super::traffic::Traffic;
    use super::*;

    /// A workload's runs at 20 ms, from total time and requests.
    fn runs(name: &str, all: [(Mode, f64, u64); 4]) -> Vec<Record> {
        let record = |(mode, whole, requests): (Mode, f64, u64)| {
            let cell = Cell::new(name, mode, Condition::latency(USUAL_MS));
            Record::Run(Run { client: Traffic { requests, bytes: 1000 }, ..run(cell, 1, whole) })
        };
        all.map(record).into()
    }

    fn found(records: &Records) -> Vec<(String, f64, bool)> {
        check(records).into_iter().map(|target| (target.name, target.value, target.ok)).collect()
    }

    #[test]
    fn targets_compare_the_named_figures() {
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
        let waits = run(Cell::new("python", Mode::Waits, Condition::latency(USUAL_MS)), 1, 5.0);
        all.push(Record::Run(Run { client: Traffic { requests: 9, bytes: 1000 }, ..waits }));
        all.push(Record::Facts(Facts { waste: 0.0625, ..facts("root") }));
        all.push(Record::Facts(facts("python")));
        let far = Cell::new("root", Mode::Prefetch, Condition::latency(120));
        all.push(Record::Run(run(far, 1, 4.25)));
        let crowd = Cell { containers: 50, ..Cell::new("python", Mode::Prefetch, Condition::latency(USUAL_MS)) };
        all.push(Record::Run(Run { daemon: Traffic { requests: 3, bytes: 2000 }, ..run(crowd, 1, 9.0) }));
        let expected = [
            ("python, 20 ms: total time / limit", 1.0, true),
            ("python, 20 ms: total time / lazy", 0.5, false),
            ("python, 20 ms: never slower than lazy", 0.5, true),
            ("python, 20 ms: share of transferred bytes that lazy does not need", 0.0, true),
            ("python, 20 ms, start waits: total time / limit", 2.5, false),
            ("python, 20 ms, start waits: total time / lazy", 1.25, false),
            ("python, 20 ms, start waits: never slower than lazy", 1.25, false),
            ("python, 20 ms, start waits: share of transferred bytes that lazy does not need", 0.0, true),
            ("root, 20 ms: total time / limit", 2.0, false),
            ("root, 20 ms: total time / better of full pull and lazy", 0.5, true),
            ("root, 20 ms: never slower than lazy", 0.25, true),
            ("root: growth per round trip, in round trips", 2.5, true),
            ("root, 20 ms: share of transferred bytes that lazy does not need", 0.5, false),
            ("python: wasted share of the bundle", 0.0, true),
            ("root: wasted share of the bundle", 0.0625, false),
            ("python, 20 ms, 50 containers: bytes from the origin / one", 2.0, false),
            ("root, 20 ms: requests, lazy / prefetch", 100.0, true),
        ];
        assert_eq!(found(&records(all)), expected.map(|(name, value, ok)| (name.to_owned(), value, ok)));
    }

    #[test]
    fn without_measurements_there_are_no_targets() {
        assert!(check(&records(Vec::new())).is_empty());
        let squid = Condition { squid: true, ..Condition::latency(5) };
        assert_eq!(round_trips(&[squid, Condition::latency(7)]), [7]);
    }
}
