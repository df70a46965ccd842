//! `store show`: the contents of a bundle in the store.

use std::process::ExitCode;

use anyhow::Result;
use bundles::store::View;

use super::directory::{StoreArgs, find};
use crate::commands::bundle::inspect::{self, Form};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  Show the figures of a bundle:
    cvmfs-prefetch store show registry.example.org/physics/root:6.32

  Show its objects, by some digits of the chain ID:
    cvmfs-prefetch store show 2c26b46b --table
";

/// Show the contents of a bundle in the store
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Show {
    /// Reference, chain ID or manifest digest of the image, or at least 4 digits of an ID
    image: String,
    #[command(flatten)]
    directory: StoreArgs,
    #[command(flatten)]
    form: Form,
}

impl Show {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bundle = find(&View::open(&self.directory.store)?, &self.image)?;
        inspect::print(out, &bundle, &self.form)?;
        Ok(ExitCode::SUCCESS)
    }
}
