//! `bundle pull`: the bundle beside an image in its registry.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bundles::registry;

use crate::json::PulledBundle;
use crate::output::{self, Output};
use crate::registry_args::RegistryArgs;
use crate::request::NO_BUNDLE;

const EXAMPLES: &str = "\
Examples:
  Fetch the bundle that was pushed with `bundle push --registry`:
    cvmfs-prefetch bundle pull registry.example.org/physics/root:6.32 -o root.bundle

Exit codes: 0 the bundle was written, 1 error, 2 wrong usage, 3 there is no bundle beside the image
";

/// Fetch the bundle that is published beside an image in its registry
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Pull {
    /// Reference of the image
    #[arg(value_name = "REFERENCE")]
    image: String,
    /// Bundle to write
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

impl Pull {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let found = registry::fetch_bundle(&self.image, self.registry.plain_http).await;
        let Some(bundle) = found.map_err(|error| self.registry.explain(error.into()))? else {
            output::warn(format_args!("there is no bundle beside {}", self.image));
            return Ok(ExitCode::from(NO_BUNDLE));
        };
        bundle.write(&self.output)?;
        let report = PulledBundle {
            bundle: self.output.display().to_string(),
            image: (&bundle.image).into(),
            objects: bundle.objects.len(),
            traces: bundle.traces,
        };
        out.report(self.json, &report, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, report: &PulledBundle) -> io::Result<()> {
    writeln!(out, "{}: {} objects, from {} trace(s)", report.bundle, report.objects, report.traces)
}
