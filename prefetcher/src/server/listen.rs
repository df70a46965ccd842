//! The listeners of the daemon: its Unix socket, TCP with mutual TLS, and the address of the metrics.

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
use tower::layer::util::{Identity as NoLayer, Stack};
use tracing::info;

use crate::config::{Config, TcpConfig};
use crate::daemon::Daemon;
use crate::server::grpc::{Rights, Service};
use crate::server::large_messages::LargeMessages;

/// Timeout of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Calls of a connection at a time. Clients queue further ones.
const MAX_CALLS: u32 = 256;
/// Bytes of a call that are received while nobody reads them.
const CALL_WINDOW: u32 = 32 << 10;
/// Bytes of a connection that are received while nobody reads them. Enough for all calls, so that large messages that wait for their
/// turn do not keep the one whose turn it is from being received.
const CONNECTION_WINDOW: u32 = (MAX_CALLS + 1) * CALL_WINDOW;
/// Services whose health is reported: the whole daemon, and its API.
const HEALTH_NAMES: [&str; 2] = ["", "cvmfs_prefetch.v1.Prefetcher"];

/// Listeners that are bound and not served yet.
#[derive(Debug)]
pub struct Listeners {
    socket: Socket,
    unix: UnixListener,
    tcp: Option<(TcpListener, ServerTlsConfig, Rights)>,
    metrics: Option<TcpListener>,
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The Unix socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A TCP address cannot be bound.
    #[error("{key}: cannot listen on {address}: {source}")]
    Address {
        /// Key of the configuration.
        key: &'static str,
        /// Value of the key.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file of `[tcp]` cannot be read.
    #[error("tcp: {key}: {path}: {source}")]
    File {
        /// Key of the configuration.
        key: &'static str,
        /// Value of the key.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The content of these files cannot be used.
    #[error("tcp: certificate, key or client_ca cannot be used: {0}")]
    Tls(tonic::transport::Error),
}

impl Listeners {
    /// Binds all configured listeners. Must be called in a tokio runtime.
    pub async fn bind(config: &Config) -> Result<Self, ListenError> {
        let access = Access::new(config.socket_mode, config.socket_owner.as_deref(), config.socket_group.as_deref())?;
        let (socket, unix) = Socket::bind(&config.socket, &access)?;
        let failed = |source| SocketError::Io { action: "use", path: config.socket.clone(), source };
        let unix = UnixListener::from_std(unix).map_err(failed)?;
        let tcp = match &config.tcp {
            None => None,
            Some(tcp) => {
                let tls = tls(tcp)?;
                // Now, so that a wrong certificate is an error at the start.
                Server::builder().tls_config(tls.clone()).map_err(ListenError::Tls)?;
                let rights = if tcp.control { Rights::All } else { Rights::NoControl };
                Some((listen("tcp.address", tcp.address).await?, tls, rights))
            }
        };
        let metrics = match config.metrics_address {
            None => None,
            Some(address) => Some(listen("metrics_address", address).await?),
        };
        Ok(Self { socket, unix, tcp, metrics })
    }

    /// Serves `daemon` until `drained` and until clients have received their last responses.
    pub async fn serve(self, daemon: Arc<Daemon>, drained: CancellationToken) -> Result<(), tonic::transport::Error> {
        // The socket's name is removed when no client is served any more.
        let _socket = self.socket;
        let (health, health_service) = tonic_health::server::health_reporter();
        tokio::spawn(report_health(health, daemon.clone()));
        let large_messages = LargeMessages::new();
        let services = |server: Server, rights: Rights| -> Router<Stack<LargeMessages, NoLayer>> {
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1();
            server
                .max_concurrent_streams(MAX_CALLS)
                .initial_stream_window_size(CALL_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .layer(large_messages.clone())
                .add_service(Service::server(daemon.clone(), rights))
                .add_service(health_service.clone())
                // The descriptors are compiled in, so this does not fail.
                .add_optional_service(reflection.ok())
        };
        let unix = services(Server::builder(), Rights::All)
            .serve_with_incoming_shutdown(UnixListenerStream::new(self.unix), drained.clone().cancelled_owned());
        let tcp = async {
            let Some((listener, tls, rights)) = self.tcp else { return Ok(()) };
            info!(address = ?listener.local_addr().ok(), "listening on TCP for clients with a certificate");
            services(Server::builder().tls_config(tls)?, rights)
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

/// Reports SERVING until the daemon starts to shut down.
async fn report_health(health: HealthReporter, daemon: Arc<Daemon>) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::Serving).await;
    }
    daemon.shutting_down().await;
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
}
