//! `publish`: a bundle into a repository's tree.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A bundle, as `build` writes it
    bundle: PathBuf,
    /// Root of the repository, open for writing (inside `cvmfs_server transaction`), or a directory to be copied there
    #[arg(long, value_name = "DIRECTORY")]
    tree: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let bundle = Bundle::read(&args.bundle)?;
    let target = bundles::publish::publish(&bundle, &args.tree)?;
    println!("{}", target.display());
    Ok(ExitCode::SUCCESS)
}
