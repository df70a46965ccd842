//! `store export`: a bundle of the store as a file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::store::View;

use super::directory::{StoreArgs, find};
use crate::json::SavedBundle;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  Save a bundle to a file:
    cvmfs-prefetch store export registry.example.org/physics/root:6.32 -o root.bundle
";

/// Write a bundle of the store to a file
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Export {
    /// Reference, chain ID or manifest digest of the image, or at least 4 digits of an ID
    image: String,
    /// Bundle to write
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    directory: StoreArgs,
}

impl Export {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bundle = find(&View::open(&self.directory.store)?, &self.image)?;
        bundle.write(&self.output)?;
        let report = SavedBundle { bundle: self.output.display().to_string(), image: (&bundle.image).into() };
        out.report(self.json, &report, |out, report| writeln!(out, "{}", report.bundle))?;
        Ok(ExitCode::SUCCESS)
    }
}
