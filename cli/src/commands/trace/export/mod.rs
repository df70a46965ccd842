//! `trace export`: a trace in the format of another program.

mod chrome;
mod csv;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bundles::trace::Trace;

use crate::output::{Output, write_json};

const EXAMPLES: &str = "\
Examples:
  Write the files of a trace as a table:
    cvmfs-prefetch trace export root.trace --format csv -o root.csv

  Write a timeline for https://ui.perfetto.dev:
    cvmfs-prefetch trace export root.trace --format chrome -o root.json
";

/// Write a trace as JSON, CSV or Chrome trace events
///
/// JSON has everything, CSV has a row per file, and Perfetto shows Chrome trace events as a timeline.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Export {
    /// Trace
    file: PathBuf,
    /// Format to write
    #[arg(long, value_enum)]
    format: Format,
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Everything
    Json,
    /// The files, one row each
    Csv,
    /// Trace events for Perfetto and chrome://tracing
    Chrome,
}

impl Export {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let trace = Trace::read(&self.file)?;
        match &self.output {
            None => out.print(|out| write(out, self.format, &trace))?,
            Some(path) => {
                let written = File::create(path).map(BufWriter::new).and_then(|mut file| {
                    write(&mut file, self.format, &trace)?;
                    file.flush()
                });
                written.with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(out: &mut impl Write, format: Format, trace: &Trace) -> io::Result<()> {
    match format {
        Format::Json => write_json(out, trace),
        Format::Csv => csv::write(out, trace),
        Format::Chrome => chrome::write(out, trace),
    }
}
