//! `cvmfs-prefetch-snapshotter`: see the library's documentation.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use snapshotter::config::{Config, DEFAULT_PATH};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// containerd snapshotter plugin that takes image layers from CVMFS and has them prefetched.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = DEFAULT_PATH, env = "CVMFS_PREFETCH_SNAPSHOTTER_CONFIG")]
    config: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let config = Config::read(&arguments.config)
        .with_context(|| format!("the configuration {} cannot be used", arguments.config.display()))?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        snapshotter::server::serve(&config, async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
    });
    // A look-up in a mount that hangs never ends; the process must.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}
