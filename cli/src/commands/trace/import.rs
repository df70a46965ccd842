//! `trace import`: the recording of another program as a trace.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use bundles::image::{ChainId, ImageId};
use bundles::trace::import::{Source, import};

use crate::json::ImportedTrace;
use crate::output::Output;
use crate::registry_args::RegistryArgs;

const EXAMPLES: &str = "\
Examples:
  Import what strace recorded, for an image that is looked up in its registry:
    cvmfs-prefetch trace import run.strace --format strace --image registry.example.org/physics/root:6.32

  Import the trace of a CVMFS client, for an image without a registry:
    cvmfs-prefetch trace import cvmfs.csv --format cvmfs -o root.trace \\
      --image sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
";

/// Make a trace from the recording of another program
///
/// Reads what the optimizers of eStargz and nydus, the CVMFS client or strace recorded, and writes a trace that `bundle build`
/// takes. The trace states which blind spots the other program has.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Import {
    /// Recording to import
    file: PathBuf,
    /// Program that wrote the recording
    #[arg(long, value_enum)]
    format: Format,
    /// Image that ran: a reference, which is looked up in its registry, or a chain ID (sha256:...)
    #[arg(long, value_name = "REFERENCE|CHAIN_ID")]
    image: String,
    /// Trace to write
    #[arg(long, short, value_name = "FILE", default_value = "trace.cpft")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// `ctr-remote image optimize --record-out`
    Stargz,
    /// CSV of nydus-snapshotter's optimizer, with readable = false
    Nydus,
    /// CVMFS_TRACEFILE of a CVMFS client
    Cvmfs,
    /// `strace -f`, best with -y -ttt -s 4096
    Strace,
}

impl Import {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let source = match self.format {
            Format::Stargz => Source::Stargz,
            Format::Nydus => Source::Nydus,
            Format::Cvmfs => Source::Cvmfs,
            Format::Strace => Source::Strace,
        };
        let failed = || format!("cannot import {}", self.file.display());
        let bytes = std::fs::read(&self.file).with_context(failed)?;
        let imported = import(source, &bytes).with_context(failed)?;
        let image = match self.image.parse::<ChainId>() {
            Ok(chain_id) => ImageId { chain_id, manifest: None, reference: String::new() },
            Err(_) => self.registry.describe(&self.image).await?.id,
        };
        if let (Some(recorded), Some(found)) = (imported.manifest, image.manifest) {
            ensure!(
                recorded == found,
                "the recording is of the manifest {recorded}, but {} is {found}: give the image that ran with --image",
                self.image
            );
        }
        let trace = imported.into_trace(image);
        trace.write(&self.output)?;
        let report = ImportedTrace {
            trace: self.output.display().to_string(),
            image: (&trace.image).into(),
            files: trace.files.len(),
            complete: trace.is_complete(),
            faults: trace.faults(),
        };
        out.report(self.json, &report, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, report: &ImportedTrace) -> io::Result<()> {
    writeln!(out, "{}: {} files", report.trace, report.files)?;
    report.faults.iter().try_for_each(|fault| writeln!(out, "incomplete: {fault}"))
}
