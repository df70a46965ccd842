//! The run time of the recorder's programs as the kernel counts it. It shows one per cent even on a noisy machine, where the
//! clock does not.
//!
//! Counting is not free (each run of a program reads the clock twice), so these runs are not compared with others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::jobs::Job;
use crate::test_container::TestContainer;
use crate::timing::{check, median, recorded};

/// Prints a line for each program that ran, and one for all. Returns whether the sum is within the job's limit.
pub(crate) fn report(job: Job, rounds: usize) -> Result<bool> {
    let container = TestContainer::with_host_root()?;
    let scratch = tempfile::tempdir()?;
    job.prepare(scratch.path())?;
    job.run(&container, scratch.path())?;
    let _counting = enable_stats(Stats::RunTime).context("BPF's statistics (Linux 5.8)")?;
    let mut runs = Vec::new();
    let mut lost = 0;
    for _ in 0..rounds {
        let run = || {
            let before = Counts::now()?;
            let took = job.run(&container, scratch.path())?;
            Ok(Counts::now()?.since(&before, took.as_secs_f64() * 1e3))
        };
        let (run, trace) = recorded(&container, run)?;
        check(job, &trace)?;
        lost += trace.losses.total();
        runs.push(run);
    }
    let median_of = |value: &dyn Fn(&Counts) -> f64| median(&mut runs.iter().map(value).collect::<Vec<_>>());
    let took = median_of(&|run| run.job_ms);
    println!("| {} | | {took:.1} ms | |", job.name());
    for program in runs.iter().flat_map(|run| run.programs.keys()).collect::<BTreeSet<_>>() {
        let times = median_of(&|run| run.programs.get(program).map_or(0.0, |(times, _)| *times as f64));
        let ms = median_of(&|run| run.programs.get(program).map_or(0.0, |(_, ns)| *ns as f64 / 1e6));
        if times > 0.0 {
            println!("| `{program}` | {times} | {ms:.2} ms | {:.0} ns each |", ms * 1e6 / times);
        }
    }
    let all = median_of(&|run| run.programs.values().map(|(_, ns)| *ns as f64 / 1e6).sum());
    let process = median_of(&|run| run.process_ms);
    let good = 1.0 + all / took <= job.limit() && lost == 0;
    let verdict = if !good {
        "NOT ok"
    } else if job.limit().is_finite() {
        "ok"
    } else {
        "no limit"
    };
    println!("| all programs | | {all:.2} ms | {:.1} %, {} |", 100.0 * all / took, verdict);
    println!("| the recorder's process | | {process:.2} ms | on another processor |");
    Ok(good)
}

/// Runs and nanoseconds of the recorder's programs, by name, and the CPU time of its own process.
struct Counts {
    programs: BTreeMap<String, (u64, u64)>,
    process_ms: f64,
    job_ms: f64,
}

impl Counts {
    fn now() -> Result<Self> {
        let own = own_programs()?;
        let mut programs = BTreeMap::new();
        for program in loaded_programs() {
            let program = program?;
            if own.contains(&program.id()) {
                let name = program.name_as_str().unwrap_or("?").to_owned();
                programs.insert(name, (program.run_count(), program.run_time().as_nanos() as u64));
            }
        }
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let process = usage.user_time().num_nanoseconds() + usage.system_time().num_nanoseconds();
        Ok(Self { programs, process_ms: process as f64 / 1e6, job_ms: 0.0 })
    }

    fn since(mut self, before: &Self, job_ms: f64) -> Self {
        for (name, (times, ns)) in &mut self.programs {
            if let Some((times_before, ns_before)) = before.programs.get(name) {
                *times -= times_before;
                *ns -= ns_before;
            }
        }
        self.process_ms -= before.process_ms;
        self.job_ms = job_ms;
        self
    }
}

/// The ids of the programs that this process has descriptors of.
fn own_programs() -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        if let Some(id) = info.lines().find_map(|line| line.strip_prefix("prog_id:")) {
            ids.push(id.trim().parse().context("prog_id")?);
        }
    }
    Ok(ids)
}
