//! `trace`: what is in a trace, for people and for other programs.

mod export;
mod import;
pub(crate) mod show;
mod stats;

use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Print a trace
    Show(show::Args),
    /// Print a trace in figures
    Stats(stats::Args),
    /// Write a trace as JSON, CSV, or Chrome trace events (which Perfetto opens)
    Export(export::Args),
    /// Make a trace of another program's record
    Import(import::Args),
}

pub(crate) async fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Show(args) => show::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use bundles::image::{ChainId, Digest, ImageId};
    use bundles::path::RootPath;
    use bundles::trace::{End, FileUse, Losses, Trace, Unseen, Use};

    /// A trace of files with their times and sizes.
    pub(super) fn trace(files: &[(&str, u64, u64)]) -> Trace {
        let file = |(path, at_us, size): &(&str, u64, u64)| FileUse {
            path: RootPath::new(*path).unwrap(),
            at_us: *at_us,
            size: *size,
            open_flags: 0,
            how: Use::Open,
        };
        Trace {
            image: ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: "r/i:t".into() },
            started: 0,
            duration_us: 1000,
            end: End::Stopped,
            recorder: "test".into(),
            unseen: Unseen::default(),
            lost: Losses::default(),
            files: files.iter().map(file).collect(),
        }
    }
}
