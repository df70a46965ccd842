//! Serves containerd on the Unix socket, and Prometheus over HTTP.
//!
//! A restart must not fail any call of containerd. When its connection ends, containerd connects again at once: while the
//! socket does not exist it retries, but if nobody listens behind the socket all calls fail for a second or more. So the
//! socket is deleted before the connections are closed, and created when it is served.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_snapshots::tonic::transport::Server;
use node::unix_socket::{Access, Socket};
use tokio::net::{TcpListener, UnixListener};
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
    let (socket, listener) = Socket::bind(&config.socket, &Access::owner_only())?;
    let listener = UnixListener::from_std(listener).context("cannot use the socket")?;
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
        drop(socket);
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
