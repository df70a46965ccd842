//! Serves containerd on the Unix socket, and Prometheus over HTTP.
//!
//! A restart must not fail any call of containerd. When its connection ends, containerd connects again at once: while the
//! socket does not exist it retries, but if nobody listens behind the socket all calls fail for a second or more. So the
//! socket is deleted before the connections are closed, and created when it is served.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use containerd_snapshots::tonic::transport::Server;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::service::Service;

/// How long running calls may take after a stop was requested.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` completes. Everything that was answered is on disk, so killing the process loses nothing either.
pub async fn serve(config: &Config, stop: impl Future<Output = ()>) -> Result<()> {
    // The database is locked first: of two processes with the same root, the second must not take the socket.
    let service = Service::open(config).with_context(|| format!("cannot use the root {}", config.root.display()))?;
    let service = Arc::new(service);
    let metrics = Arc::clone(service.metrics());
    let listener = listen(&config.socket).await?;
    let metrics_server = serve_metrics(config, Arc::clone(&metrics)).await?;
    tracing::info!(socket = %config.socket.display(), root = %config.root.display(), "serving");
    let (stopping, stopped) = watch::channel(false);
    let graceful = Server::builder()
        .add_service(containerd_snapshots::server(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), until_true(stopped.clone()));
    let grace_over = async {
        until_true(stopped).await;
        tokio::time::sleep(GRACE).await;
    };
    let stop = async {
        stop.await;
        tracing::info!("stopping");
        if let Err(error) = std::fs::remove_file(&config.socket) {
            tracing::warn!(%error, socket = %config.socket.display(), "cannot delete the socket");
        }
        // Nobody receives this if the server has ended already.
        let _ = stopping.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = graceful => result.context("the gRPC server failed")?,
        () = grace_over => tracing::warn!("calls that ran longer than {GRACE:?} after the stop are aborted"),
        () = stop => {}
        () = metrics_server => {}
    }
    tracing::info!(counters = %metrics.counters(), "stopped");
    Ok(())
}

async fn until_true(mut value: watch::Receiver<bool>) {
    // An error means that the sender was dropped: the server has ended.
    let _ = value.wait_for(|value| *value).await;
}

/// Binds the configured address. The returned future serves the metrics and never ends.
async fn serve_metrics(config: &Config, metrics: Arc<Metrics>) -> Result<impl Future<Output = ()> + use<>> {
    let listener = match config.metrics_address {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| format!("cannot serve metrics on {address}"))?)
        }
        None => None,
    };
    Ok(async move {
        if let Some(listener) = listener {
            node::metrics_http::serve(listener, move || std::future::ready(metrics.text())).await;
        }
        std::future::pending::<()>().await;
    })
}

async fn listen(socket: &Path) -> Result<UnixListener> {
    if let Some(parent) = socket.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.with_context(|| format!("cannot create {}", parent.display()))?;
    }
    if UnixStream::connect(socket).await.is_ok() {
        bail!("another process is listening on {}; stop it, or configure another `socket`", socket.display());
    }
    // Bound under another name until its mode is set; then it replaces a socket that a crash left over.
    let mut temporary = socket.as_os_str().to_owned();
    temporary.push("~");
    let temporary = Path::new(&temporary);
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot delete the left-over {}", temporary.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(temporary).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(temporary, socket))
        .with_context(|| format!("cannot create the socket {}", socket.display()))?;
    Ok(listener)
}
