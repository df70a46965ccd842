//! `cvmfs-prefetchd`: warms the CVMFS cache of this node. See the crate `prefetcher`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use node::stop::Stop;
use node::{below, logging, runtime};
use prefetcher::arguments::{Arguments, Command};
use prefetcher::config::Config;
use prefetcher::daemon::Daemon;
use prefetcher::server::listen::Listeners;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Time that running downloads have to finish after a SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);
/// Time that clients then have to read their last responses.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Time that blocked threads then have to end.
const LAST_THREADS: Duration = Duration::from_millis(500);
/// Time that the removal of temporary files may then take.
const LAST_CLEANING: Duration = Duration::from_secs(2);
/// The process ends this long after a SIGTERM, whatever hangs: before `TimeoutStopSec` of its unit.
const LIMIT: Duration = Duration::from_secs(15);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let config = Config::read(&arguments.config)?;
    if let Some(Command::Check { json }) = arguments.command {
        return check(&config, json);
    }
    logging::start(config.log_format);
    lower_priority(config.nice);
    if !below::is_resolved_by_kernel() {
        info!("no openat2 (Linux 5.6, or a newer system call filter): paths below mounts are opened by component");
    }
    let runtime = runtime::start().context("cannot start the runtime")?;
    let served = runtime.block_on(serve(Arc::new(config)));
    runtime.shutdown_timeout(LAST_THREADS);
    clean(served?);
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Config, json: bool) -> Result<ExitCode> {
    let reports = prefetcher::repository::check::check(config)?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&reports)?)?;
    } else {
        reports.iter().try_for_each(|report| writeln!(out, "{report}"))?;
    }
    let served = reports.iter().all(|report| report.problem.is_none());
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Gives other processes priority on the node's cores. Called before there are other threads, which inherit the value.
fn lower_priority(nice: u8) {
    if let Err(error) = rustix::process::nice(i32::from(nice)) {
        warn!(nice, %error, "cannot set nice value");
    }
}

/// Removes temporary files. A file system that hangs does not delay the exit; the next start removes them.
fn clean(daemon: Arc<Daemon>) {
    let (done, wait) = std::sync::mpsc::channel();
    let cleaned = std::thread::Builder::new().name("clean".into()).spawn({
        let daemon = daemon.clone();
        move || {
            daemon.clean();
            drop(daemon);
            // Nobody waits for it any more if it was too slow.
            let _ = done.send(());
        }
    });
    if cleaned.is_err() || wait.recv_timeout(LAST_CLEANING).is_err() {
        warn!("temporary files stay until the next start: a cache does not respond");
        // RocksDB aborts the process if a thread closes a store while the process ends.
        std::mem::forget(daemon);
    }
}

/// Serves until a signal, then drains. Returns the daemon for its last cleaning.
async fn serve(config: Arc<Config>) -> Result<Arc<Daemon>> {
    // First of all, so that no signal has its default action once the socket exists.
    let mut stop = Stop::listen(LIMIT).context("SIGTERM and SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    // Before the store: "another daemon is listening" is the better message.
    let listeners = Listeners::bind(&config).await?;
    let daemon = Daemon::open(&config)?;
    info!(socket = %config.socket.display(), "listening");

    let drained = tokio_util::sync::CancellationToken::new();
    let mut server = tokio::spawn(listeners.serve(daemon.clone(), drained.clone()));
    let reload = async {
        while hangup.recv().await.is_some() {
            daemon.reload();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        name = stop.requested() => info!(signal = name, "stopping"),
        ended = &mut server => ended.context("server task")?.context("gRPC server")?,
        unusable = daemon.follow_settings(&config) => return Err(unusable.into()),
        () = reload => {}
    }
    daemon.drain(DRAIN).await;
    // Clients that wait for a request get its end; open connections do not delay the exit.
    drained.cancel();
    if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
        warn!("clients did not read their responses before the shutdown");
        server.abort();
    }
    Ok(daemon)
}
