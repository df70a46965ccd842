//! `bundle rebase`: the bundle of a new image from that of the image before it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::bundle::Bundle;

use super::summary;
use crate::json::BuiltBundle;
use crate::output::Output;
use crate::repository_args::RepositoryArgs;

const EXAMPLES: &str = "\
Examples:
  Make the bundle of tonight's image from last night's:
    cvmfs-prefetch bundle rebase old.bundle --image registry.example.org/physics/root:nightly -o new.bundle \\
      --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch \\
      --public-key /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub
";

/// Make the bundle of a new image from the bundle of an older one, without traces
///
/// Looks up the paths of the old bundle in the new image. Objects with the same content keep their weight, changed ones keep
/// it with less confidence, and removed ones are dropped.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Rebase {
    /// Bundle of the old image
    bundle: PathBuf,
    /// Reference of the new image
    #[arg(long, value_name = "REFERENCE")]
    image: String,
    /// Bundle to write
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repository: RepositoryArgs,
}

impl Rebase {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let old = Bundle::read(&self.bundle)?;
        let image = self.repository.image(&self.image).await?;
        let mut repositories = self.repository.open().await?;
        let bundle = bundles::builder::rebase(&old, &image, &mut repositories).await?;
        bundle.write(&self.output)?;
        out.report(self.json, &BuiltBundle::new(&self.output, &bundle), summary::print)?;
        Ok(ExitCode::SUCCESS)
    }
}
