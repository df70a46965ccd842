//! `trace`: look into a trace, and convert it from and to the formats of other programs.

mod export;
mod import;
mod show;
mod stats;

use std::process::ExitCode;

use anyhow::Result;

use crate::output::Output;

/// Show, sum up, import or export a trace
#[derive(clap::Subcommand)]
pub(crate) enum TraceCommand {
    Show(show::Show),
    Stats(stats::Stats),
    Import(import::Import),
    Export(export::Export),
}

impl TraceCommand {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Show(command) => command.run(out).await,
            Self::Stats(command) => command.run(out).await,
            Self::Import(command) => command.run(out).await,
            Self::Export(command) => command.run(out).await,
        }
    }
}
