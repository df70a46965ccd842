//! `fetch`: the bundle beside an image in its registry.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::registry;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "REFERENCE")]
    image: String,
    /// Where to write the bundle
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
    /// Talk to the registry without TLS
    #[arg(long)]
    plain_http: bool,
}

/// Ends with status 3 if there is none, as `prefetch` does.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let Some(bundle) = registry::fetch_bundle(&args.image, args.plain_http).await? else {
        eprintln!("there is no bundle beside {}", args.image);
        return Ok(ExitCode::from(3));
    };
    bundle.write(&args.output)?;
    println!("{}: {} objects, from {} trace(s)", args.output.display(), bundle.objects.len(), bundle.traces);
    Ok(ExitCode::SUCCESS)
}
