//! The commands, one file each. The struct of a command has its flags; its doc comment is the help text, short and long.
//! `run` does the work, prints through the [`Output`] and returns the exit code.

mod bundle;
mod cancel;
mod prefetch;
mod priority;
mod record;
mod status;
mod store;
mod trace;
mod watch;

use std::process::ExitCode;

use anyhow::Result;

use crate::output::Output;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Record(Box<record::Record>),
    Watch(Box<watch::Watch>),
    #[command(subcommand)]
    Trace(trace::TraceCommand),
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    Prefetch(prefetch::Prefetch),
    Status(status::Status),
    Cancel(cancel::Cancel),
    Priority(priority::SetPriority),
    #[command(subcommand)]
    Store(store::StoreCommand),
}

impl Command {
    pub(crate) async fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Record(command) => command.run(out).await,
            Self::Watch(command) => command.run(out).await,
            Self::Trace(command) => command.run(out).await,
            Self::Bundle(command) => command.run(out).await,
            Self::Prefetch(command) => command.run(out).await,
            Self::Status(command) => command.run(out).await,
            Self::Cancel(command) => command.run(out).await,
            Self::Priority(command) => command.run(out).await,
            Self::Store(command) => command.run(out).await,
        }
    }

    /// The exit code of an error. A check fails with 1, so its errors are 2: a script must not take "cannot check" for "no".
    pub(crate) fn failure_code(&self) -> ExitCode {
        let is_check = match self {
            Self::Bundle(command) => command.is_check(),
            Self::Store(command) => command.is_check(),
            _ => false,
        };
        if is_check { ExitCode::from(2) } else { ExitCode::FAILURE }
    }
}
