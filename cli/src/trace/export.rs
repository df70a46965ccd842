//! `trace export`: a trace for other programs.

mod chrome;
mod csv;

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bundles::trace::Trace;

use crate::output;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A trace
    file: PathBuf,
    /// What to write: everything as JSON, the files as CSV, or Chrome trace events for Perfetto
    #[arg(long, value_enum)]
    format: Format,
    /// Where to write it; without it, standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Json,
    Csv,
    Chrome,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let trace = Trace::read(&args.file)?;
    let Some(path) = &args.output else { return output::print(|out| write(out, args.format, &trace)) };
    let written = std::fs::File::create(path).map(BufWriter::new).and_then(|mut file| {
        write(&mut file, args.format, &trace)?;
        file.flush()
    });
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut impl Write, format: Format, trace: &Trace) -> std::io::Result<()> {
    match format {
        Format::Json => output::json(out, trace),
        Format::Csv => csv::write(out, trace),
        Format::Chrome => chrome::write(out, trace),
    }
}
