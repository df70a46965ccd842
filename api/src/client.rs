//! A client of the daemon's Unix socket, used by the snapshotter, the command line and tests.
//!
//! Creating a client does no I/O. The first call connects, and a call after a broken connection connects again. Every call
//! ends within its timeout, whatever the daemon does.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::proto;
use crate::proto::prefetcher_client::PrefetcherClient;

/// Timeout of a call unless [`Client::with_timeout`] sets another.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response in bytes. The largest is that of `List` when the daemon remembers its maximum of requests.
const MAX_RESPONSE: usize = 64 << 20;

/// Talks to the daemon on one socket. Clones share the connection once the first call was made.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
    stub: OnceLock<PrefetcherClient<Channel>>,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens on the socket, or the connection broke.
    #[error("cannot reach the prefetch daemon on {socket}: {reason}; is cvmfs-prefetchd running?")]
    Unreachable {
        /// Socket that the client was created for.
        socket: PathBuf,
        /// The innermost error, usually one of the operating system.
        reason: String,
    },
    /// No response within the timeout of the call.
    #[error("the prefetch daemon on {socket} did not respond within {} ms", timeout.as_millis())]
    Timeout {
        /// Socket that the client was created for.
        socket: PathBuf,
        /// Timeout of the call.
        timeout: Duration,
    },
    /// The daemon responded with an error.
    #[error("the prefetch daemon refused: {0}")]
    Refused(Box<Status>),
}

impl ClientError {
    /// The gRPC code, if the daemon responded.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(status) => Some(status.code()),
            Self::Unreachable { .. } | Self::Timeout { .. } => None,
        }
    }
}

impl Client {
    /// Creates a client for the daemon on `socket`. Never blocks and never fails.
    pub fn connect_lazy(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), timeout: DEFAULT_TIMEOUT, stub: OnceLock::new() }
    }

    /// Sets the timeout of each call.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Requests a prefetch of `image` with default options; returns the ID of the request.
    pub async fn prefetch(&self, image: proto::Image) -> Result<u64, ClientError> {
        self.submit(proto::PrefetchRequest { image: Some(image), ..proto::PrefetchRequest::default() }).await
    }

    /// Submits a prefetch request; returns its ID.
    pub async fn submit(&self, request: proto::PrefetchRequest) -> Result<u64, ClientError> {
        let mut stub = self.stub();
        Ok(self.bounded(self.timeout, stub.prefetch(request)).await?.request_id)
    }

    /// Returns the current status of a request.
    pub async fn status(&self, request_id: u64) -> Result<proto::RequestStatus, ClientError> {
        let mut stub = self.stub();
        self.bounded(self.timeout, stub.status(proto::StatusRequest { request_id, wait: false })).await
    }

    /// Waits at most `timeout` for the end of a request and returns its final status.
    pub async fn wait(&self, request_id: u64, timeout: Duration) -> Result<proto::RequestStatus, ClientError> {
        let mut stub = self.stub();
        self.bounded(timeout, stub.status(proto::StatusRequest { request_id, wait: true })).await
    }

    /// Streams the status of a request: at once, after every interval, and when it has ended. The timeout covers only
    /// the start of the stream.
    pub async fn watch(
        &self,
        request_id: u64,
        interval: Duration,
    ) -> Result<impl Stream<Item = Result<proto::RequestStatus, ClientError>> + Unpin + use<>, ClientError> {
        let mut stub = self.stub();
        let interval_ms = (interval.as_millis() as u64).max(1);
        let statuses = self.bounded(self.timeout, stub.watch(proto::WatchRequest { request_id, interval_ms })).await?;
        let client = self.clone();
        Ok(statuses.map(move |status| status.map_err(|status| client.error(status))))
    }

    /// Waits at most `timeout` for the critical objects of a request. The reply says whether all are in the cache.
    pub async fn wait_critical(
        &self,
        request_id: u64,
        timeout: Duration,
    ) -> Result<proto::WaitCriticalReply, ClientError> {
        let mut stub = self.stub();
        let request = proto::WaitCriticalRequest { request_id, timeout_ms: timeout.as_millis() as u64 };
        self.bounded(timeout + self.timeout, stub.wait_critical(request)).await
    }

    /// Cancels a request and returns its final status.
    pub async fn cancel(&self, request_id: u64) -> Result<proto::RequestStatus, ClientError> {
        let mut stub = self.stub();
        self.bounded(self.timeout, stub.cancel(proto::CancelRequest { request_id })).await
    }

    /// Changes the priority of a request and returns its status.
    pub async fn set_priority(
        &self,
        request_id: u64,
        priority: proto::Priority,
    ) -> Result<proto::RequestStatus, ClientError> {
        let mut stub = self.stub();
        let request = proto::SetPriorityRequest { request_id, priority: priority.into() };
        self.bounded(self.timeout, stub.set_priority(request)).await
    }

    /// Lists the daemon's requests and stored bundles.
    pub async fn list(&self) -> Result<proto::ListReply, ClientError> {
        let mut stub = self.stub();
        self.bounded(self.timeout, stub.list(proto::ListRequest {})).await
    }

    /// Removes the bundles of an image from the daemon's store; returns how many were removed.
    pub async fn remove_bundles(&self, image: proto::Image) -> Result<u64, ClientError> {
        let mut stub = self.stub();
        let call = stub.remove_bundle(proto::RemoveBundleRequest { image: Some(image) });
        Ok(self.bounded(self.timeout, call).await?.removed_bundles)
    }

    /// The gRPC stub. Created at the first call because tonic needs a tokio runtime for it.
    fn stub(&self) -> PrefetcherClient<Channel> {
        let create = || {
            let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket.display()));
            // Anything after `unix:` is a path to tonic, so this cannot fail.
            let endpoint = endpoint.unwrap_or_else(|_| Endpoint::from_static("unix:/"));
            PrefetcherClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_RESPONSE)
        };
        self.stub.get_or_init(create).clone()
    }

    async fn bounded<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(timeout, call).await {
            Err(_) => Err(ClientError::Timeout { socket: self.socket.clone(), timeout }),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(status)),
        }
    }

    fn error(&self, status: Status) -> ClientError {
        // A status that tonic made of a transport error has that error as its source.
        match std::error::Error::source(&status) {
            Some(source) => ClientError::Unreachable { socket: self.socket.clone(), reason: innermost(source) },
            None => ClientError::Refused(Box::new(status)),
        }
    }
}

// The message of the last error in a chain. Those of tonic and hyper before it ("transport error") do not help anybody.
fn innermost(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn creating_a_client_needs_neither_daemon_nor_runtime() {
        Client::connect_lazy(Path::new("/nonexistent/socket"));
    }

    #[tokio::test]
    async fn the_error_names_the_socket_of_a_missing_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::connect_lazy(&dir.path().join("s.sock"));
        let error = client.list().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("s.sock") && error.to_string().contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_call_to_a_silent_daemon_ends_at_the_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let client = Client::connect_lazy(&socket).with_timeout(Duration::from_millis(50));
        assert!(matches!(client.status(1).await, Err(ClientError::Timeout { .. })));
    }
}
