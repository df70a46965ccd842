//! The gRPC service: checks calls and passes them to the [`Daemon`]. No call waits for the network, except those that wait for the end
//! of a request.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::limits::MAX_BUNDLE;
use api::proto;
use api::proto::prefetcher_server::{Prefetcher, PrefetcherServer};
use bundles::bundle::Bundle;
use futures::Stream;
use tonic::{Request as Call, Response, Status};
use tracing::{debug, info};

use super::status_stream;
use crate::bundle_memory::MemoryError;
use crate::daemon::{Daemon, Refused};
use crate::request::Request;
use crate::request::image_query::ImageQuery;
use crate::request::spec::PrefetchSpec;

/// Maximum size of a message: one with a bundle.
const MAX_MESSAGE: usize = MAX_BUNDLE + (64 << 10);
/// Maximum timeout of WaitCritical.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Default interval of Watch.
const INTERVAL: Duration = Duration::from_millis(500);
/// Minimum interval of Watch.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// What the clients of a listener may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    All,
    /// Everything but to change what others have requested: cancel, set a priority, remove bundles.
    NoControl,
}

/// The service of a daemon.
#[derive(Debug)]
pub struct Service {
    daemon: Arc<Daemon>,
    rights: Rights,
}

impl Service {
    /// Creates the service for tonic.
    pub fn server(daemon: Arc<Daemon>, rights: Rights) -> PrefetcherServer<Self> {
        PrefetcherServer::new(Self { daemon, rights }).max_decoding_message_size(MAX_MESSAGE)
    }

    fn request(&self, id: u64) -> Result<Arc<Request>, Status> {
        let unknown = || Status::not_found(format!("request {id} is unknown or no longer remembered"));
        self.daemon.requests().get(id).ok_or_else(unknown)
    }

    /// Checks a call, and decodes its bundle.
    async fn check(&self, mut call: proto::PrefetchRequest) -> Result<PrefetchSpec, Status> {
        let file = Arc::new(std::mem::take(&mut call.bundle));
        let invalid = |error: String| Status::invalid_argument(error);
        let bundle = match file.len() {
            0 => None,
            1..=MAX_BUNDLE => match self.daemon.sources().memory_for_sent().decode(&file).await {
                Ok(bundle) => Some(bundle),
                Err(error @ (MemoryError::Format(_) | MemoryError::TooLarge { .. })) => {
                    return Err(invalid(format!("bundle: {error}")));
                }
                Err(error @ MemoryError::Full { .. }) => return Err(Status::resource_exhausted(error.to_string())),
                Err(error @ MemoryError::Died(_)) => return Err(Status::unavailable(error.to_string())),
            },
            size => return Err(invalid(format!("bundle: {size} bytes, at most {MAX_BUNDLE} are accepted"))),
        };
        PrefetchSpec::from_api(call, bundle).map_err(|error| invalid(error.to_string()))
    }

    /// Refuses a call that changes what others have requested, if the client has no right to it.
    fn check_control(&self) -> Result<(), Status> {
        match self.rights {
            Rights::All => Ok(()),
            Rights::NoControl => Err(Status::permission_denied(
                "over TCP, requests cannot be changed and bundles not removed unless [tcp] has control = true",
            )),
        }
    }
}

#[tonic::async_trait]
impl Prefetcher for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::RequestStatus, Status>> + Send>>;

    async fn prefetch(&self, call: Call<proto::PrefetchRequest>) -> Result<Response<proto::PrefetchReply>, Status> {
        // The extensions have the turn of a large message, which ends when the message is no longer in memory.
        let (_, turn, call) = call.into_parts();
        let asked = self.check(call).await?;
        drop(turn);
        match self.daemon.prefetch(asked) {
            Ok(request_id) => Ok(Response::new(proto::PrefetchReply { request_id })),
            Err(e @ Refused::TooMany(_)) => Err(Status::resource_exhausted(e.to_string())),
            Err(e @ Refused::Stopping) => Err(Status::unavailable(e.to_string())),
        }
    }

    async fn status(&self, call: Call<proto::StatusRequest>) -> Result<Response<proto::RequestStatus>, Status> {
        let proto::StatusRequest { request_id, wait } = call.into_inner();
        let request = self.request(request_id)?;
        if !wait {
            return Ok(Response::new(request.status()));
        }
        debug!(request = request_id, "client waits for the end of the request");
        Ok(Response::new(request.ended().await))
    }

    async fn watch(&self, call: Call<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let proto::WatchRequest { request_id, interval_ms } = call.into_inner();
        let interval = match interval_ms {
            0 => INTERVAL,
            given => Duration::from_millis(given).max(MIN_INTERVAL),
        };
        Ok(Response::new(Box::pin(status_stream::statuses(self.request(request_id)?, interval))))
    }

    async fn wait_critical(
        &self,
        call: Call<proto::WaitCriticalRequest>,
    ) -> Result<Response<proto::WaitCriticalReply>, Status> {
        let proto::WaitCriticalRequest { request_id, timeout_ms } = call.into_inner();
        let request = self.request(request_id)?;
        let critical = request.critical(Duration::from_millis(timeout_ms).min(MAX_WAIT)).await;
        Ok(Response::new(proto::WaitCriticalReply { critical, status: Some(request.status()) }))
    }

    async fn cancel(&self, call: Call<proto::CancelRequest>) -> Result<Response<proto::RequestStatus>, Status> {
        self.check_control()?;
        let request = self.request(call.into_inner().request_id)?;
        info!(request = request.id, "request cancelled by a client");
        request.cancel();
        Ok(Response::new(request.ended().await))
    }

    async fn set_priority(
        &self,
        call: Call<proto::SetPriorityRequest>,
    ) -> Result<Response<proto::RequestStatus>, Status> {
        self.check_control()?;
        let call = call.into_inner();
        let request = self.request(call.request_id)?;
        match call.priority() {
            proto::Priority::Unspecified => {
                return Err(Status::invalid_argument("priority is missing: set low, normal or high"));
            }
            priority => request.set_priority(priority),
        }
        info!(request = request.id, priority = request.priority().name(), "priority changed");
        Ok(Response::new(request.status()))
    }

    async fn list(&self, _: Call<proto::ListRequest>) -> Result<Response<proto::ListReply>, Status> {
        let sources = self.daemon.sources();
        let bundles = sources.stored(summary).await.map_err(|e| Status::internal(e.to_string()))?;
        let requests = self.daemon.requests().list();
        Ok(Response::new(proto::ListReply { requests, bundles, damaged_bundles: sources.damaged().get() }))
    }

    async fn remove_bundle(
        &self,
        call: Call<proto::RemoveBundleRequest>,
    ) -> Result<Response<proto::RemoveBundleReply>, Status> {
        self.check_control()?;
        let image = call.into_inner().image.unwrap_or_default();
        let query = ImageQuery::from_api(image).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let removed = self.daemon.sources().remove(&query).await.map_err(|e| Status::internal(e.to_string()))?;
        info!(removed, image = ?query, "bundles removed from the store");
        Ok(Response::new(proto::RemoveBundleReply { removed_bundles: removed as u64 }))
    }
}

fn summary(bundle: &Bundle) -> proto::StoredBundle {
    let image = proto::Image {
        chain_id: bundle.image.chain_id.to_string(),
        manifest_digest: bundle.image.manifest.map(|m| m.to_string()).unwrap_or_default(),
        reference: bundle.image.reference.clone(),
        profile: String::new(),
    };
    proto::StoredBundle {
        image: Some(image),
        repository: bundle.repository().to_owned(),
        objects: bundle.objects.len() as u64,
        stored_bytes: bundle.bytes().0,
    }
}
