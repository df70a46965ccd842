//! `rebase`: a bundle for a new tag, from the old one's.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;

use crate::build::report;
use crate::repository;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundle of the image as it was
    bundle: PathBuf,
    /// The image as it is now
    #[arg(long, value_name = "REFERENCE")]
    image: String,
    #[command(flatten)]
    repository: repository::Args,
    /// Where to write the new bundle
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let old = Bundle::read(&args.bundle)?;
    let image = args.repository.image(&args.image).await?;
    let mut repositories = args.repository.open().await?;
    let bundle = bundles::builder::rebase(&old, &image, &mut repositories).await?;
    bundle.write(&args.output)?;
    report(&bundle, &args.output);
    Ok(ExitCode::SUCCESS)
}
