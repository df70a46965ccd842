//! Without and with, in turns.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use bundles::trace::{End, Trace};
use tracer_ebpf::Options;

use crate::jobs::Job;
use crate::site::{Site, run};

/// What a recorder that was just loaded or dropped leaves the kernel to do is neither job's.
const SETTLE: Duration = Duration::from_millis(300);

/// Runs a job in turns and prints its line; whether its limit holds, as far as the clock can tell, and nothing was lost.
///
/// The ratio is the median of those of the pairs, the two of which ran one right behind the other: a shared machine gets slower
/// and quicker from one minute to the next. Behind it is its standard error; where that is wider than the limit, the kernel's
/// count decides, see `counts.rs`.
pub(crate) fn compare(job: Job, rounds: usize) -> Result<bool> {
    let site = Site::of_host()?;
    let scratch = tempfile::tempdir()?;
    job.prepare(scratch.path())?;
    // Caches first.
    job.run(&site, scratch.path())?;
    let (mut without, mut with, mut ratios, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..job.pairs(rounds) {
        let plain = || {
            thread::sleep(SETTLE);
            job.run(&site, scratch.path())
        };
        // Neither has always the better place.
        let first = if round % 2 == 0 { Some(plain()?) } else { None };
        let (slowed, trace) = recorded(&site, plain)?;
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

/// That the job was the one that its limit was made for.
pub(crate) fn check(job: Job, trace: &Trace) -> Result<()> {
    ensure!(trace.files.len() >= job.least_files(), "{}: {} files", job.name(), trace.files.len());
    Ok(())
}

pub(crate) fn recorded<T>(site: &Site, job: impl FnOnce() -> Result<T>) -> Result<(T, Trace)> {
    let recorded = site.record(Options::default())?;
    // The container must have begun, also where the job is its neighbour's.
    run(site.command(&[], &["/bin/true"]))?;
    let result = job()?;
    Ok((result, recorded.stop(End::Exited(0))?))
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Its standard error, by the median of the distances to it, which outliers do not move: 1.4826 makes that a standard deviation, and
/// the median of normally distributed values errs 1.2533 times as much as their mean.
fn error_of_median(values: &[f64], median_of_them: f64) -> f64 {
    let mut distances: Vec<_> = values.iter().map(|value| (value - median_of_them).abs()).collect();
    1.4826 * 1.2533 * median(&mut distances) / (values.len() as f64).sqrt()
}
