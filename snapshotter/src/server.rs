//! The Unix socket, from start to end.
//!
//! A restart must cost containerd no call. When its connection ends, it tries at once to make another: while the socket
//! does not exist it goes on trying, but if nobody listens behind it all calls fail for a second or more. So the socket
//! goes before the connections do, and comes when it is listened to.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use containerd_snapshots::tonic::transport::Server;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;

use crate::config::Config;
use crate::service::Service;

/// How long calls may go on after the end was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Serves containerd until `stop` is done. What was answered is on disk, so an end without grace loses nothing either.
pub async fn serve(config: &Config, stop: impl Future<Output = ()>) -> Result<()> {
    // The database's lock comes first: of two that are started with one root, the second must not take the socket.
    let service = Arc::new(Service::open(config).with_context(|| format!("cannot use {}", config.root.display()))?);
    let counters = Arc::clone(service.counters());
    let listener = listen(&config.socket).await?;
    let metrics = match config.metrics_address {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("cannot serve metrics on {address}"))?)
        }
        None => None,
    };
    let of = Arc::clone(service.metrics());
    let metrics = async move {
        match metrics {
            Some(listener) => prefetcher::metrics::server::serve(listener, move || std::future::ready(of.text())).await,
            None => std::future::pending().await,
        }
    };
    tracing::info!(socket = %config.socket.display(), root = %config.root.display(), "serving");
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let wait = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is the end, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let graceful = Server::builder()
        .add_service(containerd_snapshots::server(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), wait(stopped.clone()));
    let patience = async {
        wait(stopped).await;
        tokio::time::sleep(GRACE).await;
    };
    let watch = async {
        stop.await;
        tracing::info!("stopping");
        if let Err(error) = std::fs::remove_file(&config.socket) {
            tracing::warn!(%error, socket = %config.socket.display(), "cannot delete the socket");
        }
        let _ = stopping.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = graceful => result.context("the server failed")?,
        () = patience => tracing::warn!("calls still running after {GRACE:?} are cut off"),
        () = watch => {}
        () = metrics => {}
    }
    tracing::info!("stopped; {counters}");
    Ok(())
}

async fn listen(socket: &Path) -> Result<UnixListener> {
    if let Some(parent) = socket.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.with_context(|| format!("cannot make {}", parent.display()))?;
    }
    if UnixStream::connect(socket).await.is_ok() {
        bail!("somebody serves on {} already: stop it, or set another socket", socket.display());
    }
    // Under another name until it is as it should be; then it takes the place of one that a crash left.
    let mut unready = socket.as_os_str().to_owned();
    unready.push("~");
    let unready = Path::new(&unready);
    match std::fs::remove_file(unready) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot delete the stale {}", unready.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(unready).with_context(|| format!("cannot listen on {}", socket.display()))?;
    std::fs::set_permissions(unready, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(unready, socket))
        .with_context(|| format!("cannot put the socket at {}", socket.display()))?;
    Ok(listener)
}
