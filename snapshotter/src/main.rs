//! `cvmfs-prefetch-snapshotter`: see the library's documentation.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use node::cvmfs_client::parameters::STOCK_ROOT;
use node::{logging, paths};
use snapshotter::check::{self, Finding};
use snapshotter::config::Config;
use snapshotter::containerd;
use tokio::signal::unix::{SignalKind, signal};

/// containerd snapshotter that takes image layers from CVMFS and requests their prefetch.
///
/// Without a command, it serves containerd until it gets SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = paths::SNAPSHOTTER_CONFIG, env = "CVMFS_PREFETCH_SNAPSHOTTER_CONFIG")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  cvmfs-prefetch-snapshotter config containerd --major 2   Print the lines for containerd's configuration
  cvmfs-prefetch-snapshotter check                         Check this node's setup
";

#[derive(Debug, Subcommand)]
enum Command {
    /// Check this node's setup and print what to change.
    ///
    /// Checks containerd's configuration, the socket, the mount of each repository, overlayfs on it, the file systems of the
    /// CVMFS client's cache and of the root, and the prefetch daemon. Exits with code 1 if a check fails.
    Check {
        /// containerd's configuration file.
        #[arg(long, value_name = "FILE", default_value = containerd::PATH)]
        containerd_config: PathBuf,
        /// Directory of the CVMFS client's configuration.
        #[arg(long, value_name = "DIRECTORY", default_value = STOCK_ROOT)]
        client_config: PathBuf,
        /// Print JSON: an array of objects with `subject`, `ok` and `message`.
        #[arg(long)]
        json: bool,
    },
    /// Print configurations.
    #[command(subcommand)]
    Config(Show),
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Print the configuration in use, with defaults.
    Dump,
    /// Print what containerd's configuration needs.
    Containerd {
        /// containerd's major version.
        #[arg(long, value_name = "VERSION", default_value_t = 2)]
        major: u32,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let config = Config::read(&arguments.config)?;
    logging::start(config.log_format);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the tokio runtime")?;
    let result = match arguments.command {
        None => runtime.block_on(serve(&config)).map(|()| ExitCode::SUCCESS),
        Some(Command::Check { containerd_config, client_config, json }) => {
            let findings = runtime.block_on(check::check(&config, &containerd_config, &client_config));
            print(&findings, json)
        }
        Some(Command::Config(show)) => {
            let text = match show {
                Show::Dump => toml::to_string(&config)?,
                Show::Containerd { major } => containerd::snippet(major, &config.socket),
            };
            write!(std::io::stdout(), "{text}").context("cannot write to standard output").map(|()| ExitCode::SUCCESS)
        }
    };
    // A lookup in a hung mount never ends; the process must.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

async fn serve(config: &Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    snapshotter::server::serve(config, stop).await
}

fn print(findings: &[Finding], json: bool) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(findings)?)?;
    } else {
        findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
    }
    let all_ok = findings.iter().all(|finding| finding.ok);
    Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
