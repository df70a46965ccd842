//! `cvmfs-prefetch-snapshotter`: see the library's documentation.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use prefetcher::cvmfs_client::parameters::STOCK_ROOT;
use snapshotter::check::{self, Finding};
use snapshotter::config::{Config, DEFAULT_PATH};
use snapshotter::containerd;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// containerd snapshotter plugin that takes image layers from CVMFS and has them prefetched.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = DEFAULT_PATH, env = "CVMFS_PREFETCH_SNAPSHOTTER_CONFIG")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what this node lacks for the plugin to work, and what to do. Fails if it lacks anything.
    Check {
        /// containerd's configuration file.
        #[arg(long, default_value = containerd::PATH)]
        containerd_config: PathBuf,
        /// Where the CVMFS client's configuration is.
        #[arg(long, default_value = STOCK_ROOT)]
        client_config: PathBuf,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows configurations.
    #[command(subcommand)]
    Config(Show),
}

#[derive(Debug, Subcommand)]
enum Show {
    /// This program's, defaults filled in.
    Dump,
    /// What to write into containerd's.
    Containerd {
        /// containerd's major version.
        #[arg(long, default_value_t = 2)]
        major: u32,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let config = Config::read(&arguments.config)
        .with_context(|| format!("the configuration {} cannot be used", arguments.config.display()))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
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
            write!(std::io::stdout(), "{text}").context("cannot write").map(|()| ExitCode::SUCCESS)
        }
    };
    // A look-up in a mount that hangs never ends; the process must.
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
    match json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(findings)?)?,
        false => findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?,
    }
    let all_well = findings.iter().all(|finding| finding.ok);
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
