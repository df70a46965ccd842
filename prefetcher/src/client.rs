//! A client of the daemon, for the snapshotter, the command line and tests.
//!
//! Making one touches nothing; the first call connects, and a call after a broken connection connects again. Every call
//! ends within its deadline, whatever the daemon does.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::api;
use crate::api::prefetcher_client::PrefetcherClient;

/// How long a call may take if nothing else is said.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer: a `List` of a full daemon.
const MAX_ANSWER: usize = 64 << 20;

/// Talks to the daemon on one socket. Cheap to clone after the first call.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    deadline: Duration,
    stub: OnceLock<PrefetcherClient<Channel>>,
}

/// A call that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no prefetch daemon on {socket}: {why}; is cvmfs-prefetchd running?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The deadline passed.
    #[error("the prefetch daemon on {socket} did not answer within {} ms", deadline.as_millis())]
    Late {
        /// The socket.
        socket: PathBuf,
        /// How long the call waited.
        deadline: Duration,
    },
    /// The daemon said no.
    #[error("the prefetch daemon refused: {0}")]
    Refused(Box<Status>),
}

impl ClientError {
    /// The daemon's code, if it answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(status) => Some(status.code()),
            _ => None,
        }
    }
}

impl Client {
    /// A client for the daemon on `socket`. Never blocks and never fails: see the module.
    pub fn connect_lazy(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), deadline: DEADLINE, stub: OnceLock::new() }
    }

    /// Gives each call this long.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Asks for an image to be prefetched; the id of the request.
    pub async fn prefetch(&self, image: api::Image) -> Result<u64, ClientError> {
        self.ask(api::PrefetchRequest { image: Some(image), ..api::PrefetchRequest::default() }).await
    }

    /// The same, with all that can be said about it.
    pub async fn ask(&self, call: api::PrefetchRequest) -> Result<u64, ClientError> {
        let mut stub = self.stub();
        Ok(self.bounded(self.deadline, stub.prefetch(call)).await?.request_id)
    }

    /// What has become of a request so far.
    pub async fn status(&self, request_id: u64) -> Result<api::RequestStatus, ClientError> {
        let mut stub = self.stub();
        self.bounded(self.deadline, stub.status(api::StatusRequest { request_id, wait: false })).await
    }

    /// Waits for a request's end, so long at most.
    pub async fn wait(&self, request_id: u64, within: Duration) -> Result<api::RequestStatus, ClientError> {
        let mut stub = self.stub();
        self.bounded(within, stub.status(api::StatusRequest { request_id, wait: true })).await
    }

    /// A request's status now, after each interval, and when it has ended. Only the first answer has a deadline: what
    /// comes then is as late as the caller lets it be.
    pub async fn watch(
        &self,
        request_id: u64,
        interval: Duration,
    ) -> Result<impl Stream<Item = Result<api::RequestStatus, ClientError>> + Unpin + use<>, ClientError> {
        let mut stub = self.stub();
        let interval_ms = (interval.as_millis() as u64).max(1);
        let statuses = self.bounded(self.deadline, stub.watch(api::WatchRequest { request_id, interval_ms })).await?;
        let client = self.clone();
        Ok(statuses.map(move |status| status.map_err(|status| client.error(status))))
    }

    /// Waits until the critical objects of a request are in, so long at most; whether they are, and what it has come to.
    pub async fn wait_critical(
        &self,
        request_id: u64,
        within: Duration,
    ) -> Result<api::WaitCriticalReply, ClientError> {
        let mut stub = self.stub();
        let call = api::WaitCriticalRequest { request_id, timeout_ms: within.as_millis() as u64 };
        self.bounded(within + self.deadline, stub.wait_critical(call)).await
    }

    /// Ends a request; how it has ended.
    pub async fn cancel(&self, request_id: u64) -> Result<api::RequestStatus, ClientError> {
        let mut stub = self.stub();
        self.bounded(self.deadline, stub.cancel(api::CancelRequest { request_id })).await
    }

    /// Raises or lowers a request's priority; its status then.
    pub async fn set_priority(
        &self,
        request_id: u64,
        priority: api::Priority,
    ) -> Result<api::RequestStatus, ClientError> {
        let mut stub = self.stub();
        let call = api::SetPriorityRequest { request_id, priority: priority.into() };
        self.bounded(self.deadline, stub.set_priority(call)).await
    }

    /// The daemon's requests and bundles.
    pub async fn list(&self) -> Result<api::ListReply, ClientError> {
        let mut stub = self.stub();
        self.bounded(self.deadline, stub.list(api::ListRequest {})).await
    }

    /// Removes an image's bundles from the daemon's store; how many there were.
    pub async fn drop_bundles(&self, image: api::Image) -> Result<u64, ClientError> {
        let mut stub = self.stub();
        let call = stub.drop(api::DropRequest { image: Some(image) });
        Ok(self.bounded(self.deadline, call).await?.removed_bundles)
    }

    /// Made at the first call, because tonic wants a tokio runtime for it.
    fn stub(&self) -> PrefetcherClient<Channel> {
        let make = || {
            let socket = self.socket.clone();
            let connect = tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            });
            // The address is only what HTTP/2 wants to see as authority.
            let channel = Endpoint::from_static("http://prefetchd.localhost").connect_with_connector_lazy(connect);
            PrefetcherClient::new(channel).max_decoding_message_size(MAX_ANSWER)
        };
        self.stub.get_or_init(make).clone()
    }

    async fn bounded<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(deadline, call).await {
            Err(_) => Err(ClientError::Late { socket: self.socket.clone(), deadline }),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.error(status)),
        }
    }

    fn error(&self, status: Status) -> ClientError {
        // A status that tonic made of a transport error has that error as source.
        match std::error::Error::source(&status) {
            Some(source) => ClientError::Unreachable { socket: self.socket.clone(), why: innermost(source) },
            None => ClientError::Refused(Box::new(status)),
        }
    }
}

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
    fn making_a_client_needs_neither_daemon_nor_runtime() {
        Client::connect_lazy(Path::new("/nonexistent/socket"));
    }

    #[tokio::test]
    async fn a_missing_daemon_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::connect_lazy(&dir.path().join("s.sock"));
        let error = client.list().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("s.sock") && error.to_string().contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_daemon_costs_no_more_than_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let client = Client::connect_lazy(&socket).with_deadline(Duration::from_millis(50));
        assert!(matches!(client.status(1).await, Err(ClientError::Late { .. })));
    }
}
