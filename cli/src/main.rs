//! `cvmfs-prefetch`: what a person types.
//!
//! On a build node: `record` an image's start, `build` a bundle of the records, `inspect` it, compare it with the one before
//! (`diff`, `startup-diff`), `verify` that servers have what it names, `publish` or `export` it.
//! On a worker node: ask the daemon to `prefetch` an image, and for the `status` of requests; `cancel` them or change their
//! `priority`; `drop` an image's bundle; look after its store with `bundle`.

mod build;
mod bundle;
mod control;
mod diff;
mod evaluate;
mod export;
mod fetch;
mod inspect;
mod making;
mod output;
mod pack;
mod prefetch;
mod publish;
mod rebase;
mod record;
mod repository;
mod request;
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
    /// Make a bundle for another tag of an image, from the old one's
    Rebase(rebase::Args),
    /// Put a bundle's small objects together into packs
    Pack(pack::Args),
    /// Say how good bundles are: make one of all traces but one, and try it on that
    Evaluate(evaluate::Args),
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
    /// Put a bundle beside its image: into a repository's tree, or into a registry
    Publish(publish::Args),
    /// Get the bundle that was published beside an image in its registry
    Fetch(fetch::Args),
    /// Write the files of a bundle as another prefetcher takes them
    Export(export::Args),
    /// Ask this node's daemon to bring an image's bundle into the cache
    Prefetch(prefetch::Args),
    /// Show what the daemon is doing and which bundles it has
    Status(status::Args),
    /// End a request of the daemon, for all who wait for it
    Cancel(control::Cancel),
    /// Raise or lower the priority of a request of the daemon
    Priority(control::SetPriority),
    /// Remove an image's bundles from the running daemon's store
    Drop(control::Drop),
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
        Command::Rebase(args) => rebase::run(args).await,
        Command::Pack(args) => pack::run(args).await,
        Command::Evaluate(args) => evaluate::run(args).await,
        Command::Inspect(args) => inspect::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Verify(args) => verify::run(args).await,
        Command::StartupDiff(args) => startup_diff::run(&args),
        Command::Bundle(command) => bundle::run(command).await,
        Command::Trace(command) => trace::run(&command).await,
        Command::Publish(args) => publish::run(&args).await,
        Command::Fetch(args) => fetch::run(&args).await,
        Command::Export(args) => export::run(&args),
        Command::Prefetch(args) => prefetch::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Cancel(args) => control::cancel(args).await,
        Command::Priority(args) => control::set_priority(args).await,
        Command::Drop(args) => control::drop(args).await,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const UNIT: &str = include_str!("../../deploy/systemd/cvmfs-prefetch-watch.service");
    const ENVIRONMENT: &str = include_str!("../../deploy/systemd/watch.env");

    /// The unit's command, with `options` for its variable.
    fn words(options: &str) -> Vec<&str> {
        let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/")).unwrap();
        let fill = |word| if word == "$WATCH_OPTIONS" { options } else { word };
        line.split(' ').map(fill).flat_map(str::split_whitespace).collect()
    }

    #[test]
    fn no_command_contradicts_itself() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_systemd_unit_and_its_examples_are_understood() {
        let examples =
            ENVIRONMENT.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("WATCH_OPTIONS="));
        let examples: Vec<_> = examples.map(|value| value.trim_matches('"')).collect();
        assert!(examples.len() > 3);
        for options in examples.into_iter().chain([""]) {
            let parsed = Arguments::try_parse_from(words(options)).map_err(|error| error.to_string());
            assert!(matches!(parsed.unwrap().command, Command::Watch(_)), "{options}");
        }
        assert!(Arguments::try_parse_from(words("--no-such-option")).is_err());
    }
}
