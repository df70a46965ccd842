//! `build`: traces and image in, bundle out.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bundles::bundle::Bundle;
use bundles::cvmfs::{MasterKey, Repository, Server};
use bundles::image::registry;
use bundles::trace::Trace;

use crate::text;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Traces, as `record` writes them
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// The image; by default the one that the traces name
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// URL of the repository on a server, e.g. <http://stratum1.example.org/cvmfs/unpacked.cern.ch>
    #[arg(long, value_name = "URL")]
    repository: String,
    /// HTTP proxy for the repository, e.g. <http://squid.example.org:3128>; without it, direct
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Master key of the repository (PEM); may be given several times, one must match
    #[arg(long, value_name = "FILE", required = true)]
    public_key: Vec<PathBuf>,
    /// Where to write the bundle
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let traces = args.traces.iter().map(|path| Trace::read(path)).collect::<Result<Vec<_>, _>>()?;
    let reference = match (&args.image, traces.first()) {
        (Some(reference), _) => reference.clone(),
        (None, Some(trace)) => trace.image.reference.clone(),
        (None, None) => bail!("no trace was given"),
    };
    let keys = args.public_key.iter().map(|path| MasterKey::read(path)).collect::<Result<Vec<_>, _>>()?;
    let image = registry::describe(&reference, args.plain_http).await?;
    let server = Server::new(&args.repository, args.proxy.as_deref())?;
    let mut repository = Repository::open(server, &keys)
        .await
        .with_context(|| format!("cannot use the repository {}", args.repository))?;
    let bundle = bundles::builder::build(&image, &traces, &mut repository).await?;
    bundle.write(&args.output)?;
    report(&bundle, &args.output);
    Ok(ExitCode::SUCCESS)
}

fn report(bundle: &Bundle, output: &std::path::Path) {
    let stored = bundle.objects.iter().map(|o| o.stored_size).sum();
    let raw = bundle.objects.iter().map(|o| o.raw_size).sum();
    println!(
        "{}: {} objects, {} to transfer, {} in the cache, from {} trace(s)",
        output.display(),
        bundle.objects.len(),
        text::bytes(stored),
        text::bytes(raw),
        bundle.traces
    );
    let skipped = bundle.skipped;
    for (count, why) in [
        (skipped.not_in_image, "are not in the image (made by the container or its runtime)"),
        (skipped.layer_not_in_repository, "may be in layers that the repository does not have"),
        (skipped.unsupported, "are stored externally, uncompressed or under a hash that cannot be verified"),
        (skipped.written, "the container wrote without having read what the image has"),
    ] {
        if count > 0 {
            println!("left out: {count} traced files that {why}");
        }
    }
    if bundle.incomplete_traces > 0 {
        println!("warning: {} of the traces are incomplete, so the bundle may be", bundle.incomplete_traces);
    }
}
