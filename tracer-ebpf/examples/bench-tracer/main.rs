//! What the recorder costs: each job without and with a recording, in turns, in one run.
//!
//! ```text
//! bench-tracer [--rounds N]       all jobs
//! bench-tracer --counts [N]       only what the kernel counts
//! ```
//!
//! The jobs run in a root that is an overlay of the host's own, so that they are programs like any other. Figures of other
//! machines or other runs cannot be compared; ratios can.

#[path = "../../tests/recording/site.rs"]
#[allow(dead_code)]
mod site;

mod counts;
mod jobs;
mod memory;
mod timing;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use jobs::Job;

/// Rounds of each job, if not told otherwise.
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
        // In the container.
        ["opens", directory, count] => jobs::opens(directory, count.parse()?).map(|()| true),
        // In a process of its own, whose memory is that of the recorder.
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

/// Whether all limits hold.
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

/// Whether all limits hold by the kernel's count.
fn counted(rounds: usize) -> Result<bool> {
    println!("\n| by the kernel's own count | runs | in all | |");
    println!("|--|--:|--:|--:|");
    Job::COUNTED.into_iter().try_fold(true, |good, job| Ok(counts::report(job, rounds)? && good))
}
