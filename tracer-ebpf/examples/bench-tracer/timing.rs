//! Times jobs without and with a recording, alternately.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use bundles::trace::{End, Trace};
use tracer_ebpf::Options;

use crate::jobs::Job;
use crate::test_container::{TestContainer, run};

/// Pause after a recorder was loaded or dropped, so that the kernel's deferred work does not slow down a job.
const SETTLE: Duration = Duration::from_millis(300);

/// Times a job and prints its line. Returns whether nothing was lost and the limit holds, within the precision of the clock.
///
/// The ratio is the median of the ratios of pairs. The two runs of a pair follow each other immediately, because the speed of a
/// shared machine changes from minute to minute. The standard error is printed as well; where it exceeds the limit, the kernel's
/// count decides, see `counts.rs`.
pub(crate) fn compare(job: Job, rounds: usize) -> Result<bool> {
    let container = TestContainer::with_host_root()?;
    let scratch = tempfile::tempdir()?;
    job.prepare(scratch.path())?;
    // Warm the caches.
    job.run(&container, scratch.path())?;
    let mut without = Vec::new();
    let mut with = Vec::new();
    let mut ratios = Vec::new();
    let mut lost = 0;
    for round in 0..job.pairs(rounds) {
        let plain = || {
            thread::sleep(SETTLE);
            job.run(&container, scratch.path())
        };
        // The order alternates, so that neither always runs first.
        let first = if round % 2 == 0 { Some(plain()?) } else { None };
        let (slowed, trace) = recorded(&container, plain)?;
        let took = first.map_or_else(plain, Ok)?;
        ratios.push(slowed.as_secs_f64() / took.as_secs_f64());
        without.push(took.as_secs_f64() * 1e3);
        with.push(slowed.as_secs_f64() * 1e3);
        lost += trace.losses.total();
        check(job, &trace)?;
    }
    let ratio = median(&mut ratios);
    let error = error_of_median(&ratios, ratio);
    let allowed = if Job::COUNTED.contains(&job) { error } else { 0.0 };
    let good = ratio - allowed <= job.limit() && lost == 0;
    println!(
        "| {} | {:.1} ms | {:.1} ms | {ratio:.3} ± {error:.3} | {:.2} | {lost} | {} |",
        job.name(),
        median(&mut without),
        median(&mut with),
        job.limit(),
        if good { "ok" } else { "NOT ok" },
    );
    Ok(good)
}

/// Checks that the job used as many files as its limit assumes.
pub(crate) fn check(job: Job, trace: &Trace) -> Result<()> {
    ensure!(trace.files.len() >= job.min_files(), "{}: {} files", job.name(), trace.files.len());
    Ok(())
}

pub(crate) fn recorded<T>(container: &TestContainer, job: impl FnOnce() -> Result<T>) -> Result<(T, Trace)> {
    let recorded = container.record(Options::default())?;
    // The container must have started, also if the job runs outside of it.
    run(container.command(&[], &["/bin/true"]))?;
    let result = job()?;
    Ok((result, recorded.stop(End::Exited(0))?))
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The standard error of a median, from the median absolute deviation, which outliers do not affect: times 1.4826 it is a standard
/// deviation, and the median of normally distributed values has 1.2533 times the error of their mean.
fn error_of_median(values: &[f64], median_of_them: f64) -> f64 {
    let mut distances: Vec<_> = values.iter().map(|value| (value - median_of_them).abs()).collect();
    1.4826 * 1.2533 * median(&mut distances) / (values.len() as f64).sqrt()
}
