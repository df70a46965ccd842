//! `cvmfs-prefetchd`: warms the CVMFS cache of this node. See the crate `prefetcher`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use node::{logging, paths};
use prefetcher::config::Config;
use prefetcher::daemon::Daemon;
use prefetcher::server::listen::Listeners;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// What is on its way may come in for so long after a SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);
/// Then callers get their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Then threads that hang in a mount are left behind.
const LAST_THREADS: Duration = Duration::from_millis(500);

/// Warms the CVMFS cache of this node from bundles.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, env = "CVMFS_PREFETCHD_CONFIG", default_value = paths::PREFETCHD_CONFIG)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Shows where each repository's objects would come from and go, and why. Fails if one cannot be served at all.
    Check {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let config = Config::read(&arguments.config)?;
    if let Some(Command::Check { json }) = arguments.command {
        return check(&config, json);
    }
    logging::start(config.log_format);
    give_way(config.nice);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start of the runtime")?;
    let daemon = runtime.block_on(serve(&config))?;
    runtime.shutdown_timeout(LAST_THREADS);
    daemon.clean();
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Config, json: bool) -> Result<ExitCode> {
    let reports = prefetcher::repository::check::check(config)?;
    let mut out = std::io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&reports)?)?,
        false => reports.iter().try_for_each(|report| writeln!(out, "{report}"))?,
    }
    let served = reports.iter().all(|report| report.problem.is_none());
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The node's own work goes first on its cores. Before there are other threads, which inherit it.
fn give_way(nice: u8) {
    if let Err(error) = rustix::process::nice(i32::from(nice)) {
        warn!(%error, nice, "cannot lower the own priority");
    }
}

/// Serves until a signal, then drains. The daemon is handed back for its last cleaning.
async fn serve(config: &Config) -> Result<std::sync::Arc<Daemon>> {
    // First of all, so that no signal finds the default action in force once the socket is there.
    let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let (terminate, interrupt) = (terminate.context("SIGTERM")?, interrupt.context("SIGINT")?);
    // Before the store: "another daemon is listening" is the better message.
    let listeners = Listeners::bind(config).await?;
    let daemon = Daemon::start(config)?;
    daemon.watch_revisions(config);
    daemon.watch_clients();
    info!(socket = %config.socket.display(), "listening");

    let drained = tokio_util::sync::CancellationToken::new();
    let mut server = tokio::spawn(listeners.serve(daemon.clone(), drained.clone()));
    tokio::select! {
        name = any(terminate, interrupt) => info!(signal = name, "stopping"),
        ended = &mut server => ended.context("server task")?.context("gRPC server")?,
    }
    daemon.drain(DRAIN).await;
    // Who waits for a request gets its end; who keeps a connection open does not keep us.
    drained.cancel();
    if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
        warn!("callers did not take their answers");
        server.abort();
    }
    Ok(daemon)
}

async fn any(mut terminate: Signal, mut interrupt: Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
