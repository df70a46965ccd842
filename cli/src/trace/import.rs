//! `trace import`: a record of another program as a trace.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use bundles::image::{ChainId, ImageId};
use bundles::registry;
use bundles::trace::import::{Source, import};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The record
    file: PathBuf,
    /// Which program wrote it
    #[arg(long, value_enum)]
    format: Format,
    /// The image that ran: a reference, which is looked up in its registry, or a chain ID (sha256:...)
    #[arg(long, value_name = "REFERENCE|CHAIN ID")]
    image: String,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// Where to write the trace
    #[arg(long, short, value_name = "FILE", default_value = "trace.cpft")]
    output: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// `ctr-remote image optimize --record-out`
    Stargz,
    /// The CSV of nydus-snapshotter's optimizer, with readable = false
    Nydus,
    /// A CVMFS client's CVMFS_TRACEFILE
    Cvmfs,
    /// `strace -f`, best with -y -ttt -s 4096
    Strace,
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let source = match args.format {
        Format::Stargz => Source::Stargz,
        Format::Nydus => Source::Nydus,
        Format::Cvmfs => Source::Cvmfs,
        Format::Strace => Source::Strace,
    };
    let bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let imported = import(source, &bytes).with_context(|| args.file.display().to_string())?;
    let image = match args.image.parse::<ChainId>() {
        Ok(chain_id) => ImageId { chain_id, manifest: None, reference: String::new() },
        Err(_) => registry::describe(&args.image, args.plain_http).await?.id,
    };
    if let (Some(recorded), Some(known)) = (imported.manifest, image.manifest) {
        ensure!(
            recorded == known,
            "the record is of the manifest {recorded}, {} is {known}; name the image that ran",
            args.image
        );
    }
    let trace = imported.into_trace(image);
    trace.write(&args.output)?;
    println!("{}: {} files", args.output.display(), trace.files.len());
    for fault in trace.faults() {
        println!("incomplete: {fault}");
    }
    Ok(ExitCode::SUCCESS)
}
