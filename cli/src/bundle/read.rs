//! `bundle show` and `bundle export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::store::View;

use super::{Directory, find};
use crate::inspect;

#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// The image's chain ID or manifest digest, some first digits of one, or its reference
    bundle: String,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    form: inspect::Form,
}

pub(super) fn show(args: &ShowArgs) -> Result<ExitCode> {
    inspect::print(&find(&View::open(&args.directory.store)?, &args.bundle)?, &args.form)
}

#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// The image's chain ID or manifest digest, some first digits of one, or its reference
    bundle: String,
    #[command(flatten)]
    directory: Directory,
    /// Where to write the bundle
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
}

pub(super) fn export(args: &ExportArgs) -> Result<ExitCode> {
    find(&View::open(&args.directory.store)?, &args.bundle)?.write(&args.output)?;
    Ok(ExitCode::SUCCESS)
}
