//! `bundle build`: a bundle from traces.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::summary;
use crate::build_args::{self, BuildArgs, BuildInput};
use crate::json::BuiltBundle;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  Build a bundle of all recorded runs:
    cvmfs-prefetch bundle build run-*.trace -o root.bundle \\
      --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch \\
      --public-key /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub

  The same with a profile, which gets a section of its own:
    cvmfs-prefetch bundle build run-*.trace --profile fit=fit.trace -o root.bundle \\
      --repository http://stratum1.example.org/cvmfs/unpacked.cern.ch \\
      --public-key /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub
";

/// Build a bundle from one or more traces of an image
///
/// Looks up the files of the traces in the repository's catalogs, and lists their objects by how often and how early the
/// traced runs need them. Objects that most profiles need form the common section; each profile has a section of its own.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Build {
    /// Traces, as `record` writes them
    traces: Vec<PathBuf>,
    /// Trace of a named profile, regardless of the profile that the trace names; may be repeated
    #[arg(long, value_name = "NAME=TRACE", value_parser = named_trace)]
    profile: Vec<(String, PathBuf)>,
    /// Bundle to write
    #[arg(long, short, value_name = "FILE", default_value = "image.bundle")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    build: BuildArgs,
}

fn named_trace(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, trace)) if !name.is_empty() && !trace.is_empty() => Ok((name.into(), trace.into())),
        _ => Err("expected a name and a trace, as in fit=fit.cpft".into()),
    }
}

impl Build {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        let (uses, traced) = build_args::read_traces(&self.traces, &self.profile)?;
        let BuildInput { image, tree, mut repositories, policy } = self.build.open(&traced).await?;
        let bundle = bundles::builder::build(&image, &tree, &uses, &mut repositories, &policy).await?;
        bundle.write(&self.output)?;
        out.report(self.json, &BuiltBundle::new(&self.output, &bundle), summary::print)?;
        Ok(ExitCode::SUCCESS)
    }
}
