//! `cvmfs-prefetch`: what a person types.
//!
//! On a build node: `record` an image's start, `build` a bundle of the records, `inspect` it, compare it with the one before
//! (`diff`, `startup-diff`), `verify` that servers have what it names, `publish` it.
//! On a worker node: ask the daemon to `prefetch` an image, and for the `status` of requests; look after its store with
//! `bundle`.

mod build;
mod bundle;
mod diff;
mod inspect;
mod output;
mod prefetch;
mod publish;
mod record;
mod repository;
mod startup_diff;
mod status;
mod text;
mod trace;
mod verify;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Records what containers from CVMFS read, makes bundles of it, and brings them into caches before they are needed.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Record which files a container uses: one that is run for it, or one that runs already
    Record(record::Args),
    /// Record new containers of this node as they start, as a service
    Watch(watch::Args),
    /// Make a bundle of one or more traces
    Build(build::Args),
    /// Print a bundle or a trace
    Inspect(inspect::Args),
    /// Tell what is different between two bundles
    Diff(diff::Args),
    /// Check that servers have every object of a bundle
    Verify(verify::Args),
    /// Check that what a start needs has not grown too much, from one bundle or trace to the next
    StartupDiff(startup_diff::Args),
    /// List, show, remove, export, import or verify the bundles in a node's store
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Show, sum up, export or import a trace
    #[command(subcommand)]
    Trace(trace::Command),
    /// Put a bundle into a repository's tree
    Publish(publish::Args),
    /// Ask this node's daemon to bring an image's bundle into the cache
    Prefetch(prefetch::Args),
    /// Show what the daemon is doing and which bundles it has
    Status(status::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let color = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).init();
    // Whoever asks for a check must be able to tell "no" from "could not be checked".
    let failure = if arguments.command.is_check() { ExitCode::from(2) } else { ExitCode::FAILURE };
    let result = match arguments.command {
        Command::Record(args) => record::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Build(args) => build::run(args).await,
        Command::Inspect(args) => inspect::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Verify(args) => verify::run(args).await,
        Command::StartupDiff(args) => startup_diff::run(&args),
        Command::Bundle(command) => bundle::run(command).await,
        Command::Trace(command) => trace::run(&command).await,
        Command::Publish(args) => publish::run(&args),
        Command::Prefetch(args) => prefetch::run(args).await,
        Command::Status(args) => status::run(args).await,
    };
    result.unwrap_or_else(|error| {
        eprintln!("cvmfs-prefetch: {error:#}");
        failure
    })
}

impl Command {
    fn is_check(&self) -> bool {
        matches!(self, Self::Verify(_) | Self::StartupDiff(_) | Self::Bundle(bundle::Command::Verify(_)))
    }
}
