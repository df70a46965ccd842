//! Without and with, in turns.

use std::time::Duration;

use anyhow::Result;
use bundles::trace::{End, Trace};
use tracer::Options;

use crate::jobs::Job;
use crate::site::{Site, run};

/// Runs a job in turns and prints its line; whether its limit holds and nothing was lost.
pub(crate) fn compare(job: Job, rounds: usize) -> Result<bool> {
    let site = Site::of_host()?;
    let scratch = tempfile::tempdir()?;
    job.prepare(scratch.path())?;
    // Caches first.
    job.run(&site, scratch.path())?;
    let (mut without, mut with, mut lost) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        // Neither has always the better place.
        if round % 2 == 0 {
            without.push(job.run(&site, scratch.path())?);
        }
        let (took, trace) = recorded(&site, || job.run(&site, scratch.path()))?;
        with.push(took);
        lost += trace.lost.total();
        if round % 2 == 1 {
            without.push(job.run(&site, scratch.path())?);
        }
    }
    let (without, with) = (median(&mut without), median(&mut with));
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    let good = ratio <= job.limit() && lost == 0;
    println!(
        "| {} | {:.1} ms | {:.1} ms | {ratio:.3} | {:.2} | {lost} | {} |",
        job.name(),
        without.as_secs_f64() * 1e3,
        with.as_secs_f64() * 1e3,
        job.limit(),
        if good { "ok" } else { "NOT ok" },
    );
    Ok(good)
}

fn recorded<T>(site: &Site, job: impl FnOnce() -> Result<T>) -> Result<(T, Trace)> {
    let recorded = site.record(Options::default())?;
    // The container must have begun, also where the job is its neighbour's.
    run(site.command(&[], &["/bin/true"]))?;
    let result = job()?;
    Ok((result, recorded.stop(End::Exited(0))?))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
