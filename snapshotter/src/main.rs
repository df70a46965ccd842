//! `cvmfs-prefetch-snapshotter`: see the library's documentation.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use node::{logging, runtime};
use snapshotter::arguments::{Arguments, Command, Show};
use snapshotter::check::{self, Finding};
use snapshotter::config::Config;
use snapshotter::containerd;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let config = Config::read(&arguments.config)?;
    logging::start(config.log_format);
    let runtime = runtime::start().context("cannot start the tokio runtime")?;
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
