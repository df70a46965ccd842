//! `bundle`: make, look into, check and publish bundle files. Bundles in a node's store are the business of `store`.

mod build;
mod check_growth;
mod diff;
mod evaluate;
mod export;
pub(crate) mod inspect;
mod pack;
mod pull;
mod push;
mod rebase;
mod summary;
pub(crate) mod verify;

use std::process::ExitCode;

use anyhow::Result;

use crate::output::Output;

/// Build, inspect, check and publish bundles
#[derive(clap::Subcommand)]
pub(crate) enum BundleCommand {
    Build(build::Build),
    Rebase(rebase::Rebase),
    Pack(pack::Pack),
    Inspect(inspect::Inspect),
    Diff(diff::Diff),
    Verify(verify::Verify),
    Evaluate(evaluate::Evaluate),
    Push(push::Push),
    Pull(pull::Pull),
    Export(export::Export),
    CheckGrowth(check_growth::CheckGrowth),
}

impl BundleCommand {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Build(command) => command.run(out).await,
            Self::Rebase(command) => command.run(out).await,
            Self::Pack(command) => command.run(out).await,
            Self::Inspect(command) => command.run(out).await,
            Self::Diff(command) => command.run(out).await,
            Self::Verify(command) => command.run(out).await,
            Self::Evaluate(command) => command.run(out).await,
            Self::Push(command) => command.run(out).await,
            Self::Pull(command) => command.run(out).await,
            Self::Export(command) => command.run(out).await,
            Self::CheckGrowth(command) => command.run(out).await,
        }
    }

    /// Whether the exit code 1 is a verdict.
    pub(crate) fn is_check(&self) -> bool {
        matches!(self, Self::Verify(_) | Self::CheckGrowth(_))
    }
}
