//! `trace show`: a trace, file by file.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::trace::Trace;

use crate::{output, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A trace
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    show(&Trace::read(&args.file)?, args.json)
}

/// Prints `trace`; `inspect` does the same.
pub(crate) fn show(trace: &Trace, json: bool) -> Result<ExitCode> {
    output::print(|out| if json { output::json(out, trace) } else { print(out, trace) })
}

fn print(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    head(out, trace)?;
    writeln!(out, "\n  first use        size  flags    how          path")?;
    for file in &trace.files {
        writeln!(
            out,
            "{:>11} {:>11}  {:<#7x}  {:<11}  {}",
            text::microseconds(file.at_us),
            text::bytes(file.size),
            file.open_flags,
            file.how.to_string(),
            text::path(&file.path)
        )?;
    }
    Ok(())
}

/// What is true of the trace as a whole.
pub(super) fn head(out: &mut impl Write, trace: &Trace) -> io::Result<()> {
    output::image(out, &trace.image)?;
    writeln!(out, "recorder    {}", text::line(&trace.recorder))?;
    writeln!(out, "duration    {}, {}", text::microseconds(trace.duration_us), trace.end)?;
    match trace.faults().as_slice() {
        [] => writeln!(out, "complete    yes")?,
        faults => writeln!(out, "complete    NO ({})", faults.join("; "))?,
    }
    let unseen: Vec<_> = trace.unseen.names().collect();
    if !unseen.is_empty() {
        writeln!(out, "not seen    {}", unseen.join(", "))?;
    }
    let size = trace.files.iter().fold(0u64, |sum, file| sum.saturating_add(file.size));
    writeln!(out, "files       {}, {}", trace.files.len(), text::bytes(size))
}
