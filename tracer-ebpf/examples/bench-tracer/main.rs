//! Measures the overhead of the recorder: runs each job without and with a recording, alternately.
//!
//! ```text
//! bench-tracer [--rounds N]       all jobs
//! bench-tracer --counts [N]       only the run time of the BPF programs, as the kernel counts it
//! ```
//!
//! The jobs run in an overlay of the host's root, so that they are ordinary programs. Ratios can be compared with those of
//! other machines and runs; times cannot.

#[path = "../../../tests/recording/test_container.rs"]
#[allow(dead_code)]
mod test_container;

mod counts;
mod jobs;
mod memory;
mod timing;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use jobs::Job;

/// Default number of rounds of each job.
const ROUNDS: usize = 9;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-tracer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<bool> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        // Runs in the container.
        ["opens", directory, count] => jobs::opens(directory, count.parse()?).map(|()| true),
        // Runs in a separate process, whose memory is that of the recorder.
        ["memory", files] => memory::record(files.parse()?).map(|()| true),
        [] => all(ROUNDS),
        ["--rounds", rounds] => all(rounds.parse().context("a number of rounds")?),
        ["--counts", ref rounds @ ..] => {
            let rounds = rounds.first().map_or(Ok(ROUNDS), |rounds| rounds.parse()).context("a number of rounds")?;
            counted(rounds)
        }
        _ => bail!("expected nothing, --rounds N, or --counts N"),
    }
}

/// Runs everything. Returns whether all limits hold.
fn all(rounds: usize) -> Result<bool> {
    println!("| job | without | with | ratio | at most | lost | |");
    println!("|--|--:|--:|--:|--:|--:|--|");
    let mut good = true;
    for job in Job::LIMITED {
        good &= timing::compare(job, rounds)?;
    }
    good &= memory::report()?;
    good &= counted(rounds)?;
    Ok(good)
}

/// Runs the jobs with the kernel's counting. Returns whether all limits hold.
fn counted(rounds: usize) -> Result<bool> {
    println!("\n| by the kernel's count | runs | total | |");
    println!("|--|--:|--:|--:|");
    Job::COUNTED.into_iter().try_fold(true, |good, job| Ok(counts::report(job, rounds)? && good))
}
