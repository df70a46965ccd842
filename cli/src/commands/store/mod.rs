//! `store`: the bundles that the daemon keeps on this node.
//!
//! `list`, `show`, `export` and `verify` read the store's directory beside a running daemon. `rm` asks the daemon. `import`,
//! and `rm` with `--store`, change the directory and need the daemon to be stopped.

mod directory;
mod export;
mod import;
mod list;
mod rm;
mod show;
mod verify;

use std::process::ExitCode;

use anyhow::Result;

use crate::output::Output;

/// List, show, remove, import, export or verify the bundles that the daemon keeps
#[derive(clap::Subcommand)]
pub(crate) enum StoreCommand {
    List(list::List),
    Show(show::Show),
    Rm(rm::Rm),
    Import(import::Import),
    Export(export::Export),
    Verify(verify::Verify),
}

impl StoreCommand {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::List(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Rm(command) => command.run(out).await,
            Self::Import(command) => command.run(out).await,
            Self::Export(command) => command.run(out).await,
            Self::Verify(command) => command.run(out).await,
        }
    }

    /// Whether the exit code 1 is a verdict.
    pub(crate) fn is_check(&self) -> bool {
        matches!(self, Self::Verify(_))
    }
}
