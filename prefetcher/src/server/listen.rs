//! Everything the daemon listens on: its Unix socket, TCP with mutual TLS, and the metrics' address.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::proto;
use node::unix_socket::{Access, Socket, SocketError};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::info;

use crate::config::{Config, TcpConfig};
use crate::daemon::Daemon;
use crate::server::grpc::Service;

/// A caller over TCP has so long to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Names under which health is asked for: the whole daemon, and its service.
const HEALTH_NAMES: [&str; 2] = ["", "cvmfs_prefetch.v1.Prefetcher"];

/// Bound, and not yet served.
#[derive(Debug)]
pub struct Listeners {
    socket: Socket,
    unix: UnixListener,
    tcp: Option<(TcpListener, ServerTlsConfig)>,
    metrics: Option<TcpListener>,
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not on the Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Not on an address.
    #[error("{key}: cannot listen on {address}: {source}")]
    Address {
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file of the TLS cannot be read.
    #[error("tcp: {key}: {path}: {source}")]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in these files does not work.
    #[error("tcp: certificate, key or client_ca cannot be used: {0}")]
    Tls(tonic::transport::Error),
}

impl Listeners {
    /// Binds all that is configured. Must be called in a tokio runtime.
    pub async fn bind(config: &Config) -> Result<Self, ListenError> {
        let access = Access::new(config.socket_mode, config.socket_owner.as_deref(), config.socket_group.as_deref())?;
        let (socket, unix) = Socket::bind(&config.socket, &access)?;
        let failed = |source| SocketError::Io { action: "use", path: config.socket.clone(), source };
        let unix = UnixListener::from_std(unix).map_err(failed)?;
        let tcp = match &config.tcp {
            None => None,
            Some(tcp) => {
                let tls = tls(tcp)?;
                // Now, so that a wrong certificate is told at the start.
                Server::builder().tls_config(tls.clone()).map_err(ListenError::Tls)?;
                Some((listen("tcp.address", tcp.address).await?, tls))
            }
        };
        let metrics = match config.metrics_address {
            None => None,
            Some(address) => Some(listen("metrics_address", address).await?),
        };
        Ok(Self { socket, unix, tcp, metrics })
    }

    /// Serves `daemon` until `drained`, when callers have got their last answers.
    pub async fn serve(self, daemon: Arc<Daemon>, drained: CancellationToken) -> Result<(), tonic::transport::Error> {
        // The socket's name goes when nobody is served any more.
        let _socket = self.socket;
        let (health, health_service) = tonic_health::server::health_reporter();
        tokio::spawn(tell_health(health, daemon.clone()));
        let services = |mut server: Server| -> Router {
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1();
            server
                .add_service(Service::server(daemon.clone()))
                .add_service(health_service.clone())
                // Its descriptors are part of this program.
                .add_optional_service(reflection.ok())
        };
        let unix = services(Server::builder())
            .serve_with_incoming_shutdown(UnixListenerStream::new(self.unix), drained.clone().cancelled_owned());
        let tcp = async {
            let Some((listener, tls)) = self.tcp else { return Ok(()) };
            info!(address = ?listener.local_addr().ok(), "listening on TCP, for callers with a certificate");
            services(Server::builder().tls_config(tls)?)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), drained.clone().cancelled_owned())
                .await
        };
        let metrics = async {
            let Some(listener) = self.metrics else { return Ok(()) };
            info!(address = ?listener.local_addr().ok(), "serving metrics");
            let metered = daemon.clone();
            let text = move || {
                let daemon = metered.clone();
                async move { daemon.metrics().await }
            };
            tokio::select! {
                () = node::metrics_http::serve(listener, text) => {}
                () = drained.cancelled() => {}
            }
            Ok(())
        };
        tokio::try_join!(unix, tcp, metrics).map(drop)
    }
}

fn tls(config: &TcpConfig) -> Result<ServerTlsConfig, ListenError> {
    let read = |key, path: &Path| {
        std::fs::read(path).map_err(|source| ListenError::File { key, path: path.to_owned(), source })
    };
    let identity = Identity::from_pem(read("certificate", &config.certificate)?, read("key", &config.key)?);
    let client_ca = Certificate::from_pem(read("client_ca", &config.client_ca)?);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(client_ca).timeout(HANDSHAKE))
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::Address { key, address, source })
}

/// Serving until the daemon is told to stop.
async fn tell_health(health: HealthReporter, daemon: Arc<Daemon>) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    daemon.stopping().await;
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
}
