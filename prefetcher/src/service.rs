//! The API as gRPC sees it: checks what comes in, asks the [`Daemon`], answers. Nothing here waits for a network.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::debug;

use crate::api;
use crate::api::prefetcher_server::{Prefetcher, PrefetcherServer};
use crate::daemon::{Daemon, Refused};
use crate::wanted::Wanted;
use bundles::bundle::Bundle;

/// Serves a daemon.
#[derive(Debug)]
pub struct Service {
    daemon: Arc<Daemon>,
}

impl Service {
    /// The service to be given to tonic.
    pub fn server(daemon: Arc<Daemon>) -> PrefetcherServer<Self> {
        PrefetcherServer::new(Self { daemon })
    }
}

#[tonic::async_trait]
impl Prefetcher for Service {
    async fn prefetch(&self, call: Request<api::PrefetchRequest>) -> Result<Response<api::PrefetchReply>, Status> {
        let image = call.into_inner().image.unwrap_or_default();
        let wanted = Wanted::from_api(image).map_err(|e| Status::invalid_argument(e.to_string()))?;
        match self.daemon.prefetch(wanted) {
            Ok(request_id) => Ok(Response::new(api::PrefetchReply { request_id })),
            Err(e @ Refused::TooMany(_)) => Err(Status::resource_exhausted(e.to_string())),
            Err(e @ Refused::Stopping) => Err(Status::unavailable(e.to_string())),
        }
    }

    async fn status(&self, call: Request<api::StatusRequest>) -> Result<Response<api::RequestStatus>, Status> {
        let api::StatusRequest { request_id, wait } = call.into_inner();
        let unknown = || Status::not_found(format!("request {request_id} is not known, or was forgotten"));
        let request = self.daemon.requests().get(request_id).ok_or_else(unknown)?;
        if !wait {
            return Ok(Response::new(request.status()));
        }
        debug!(request = request_id, "client waits");
        Ok(Response::new(request.ended().await))
    }

    async fn list(&self, _: Request<api::ListRequest>) -> Result<Response<api::ListReply>, Status> {
        let bundles = self.daemon.sources().stored(summary).await.map_err(Status::internal)?;
        Ok(Response::new(api::ListReply { requests: self.daemon.requests().list(), bundles }))
    }
}

fn summary(bundle: &Bundle) -> api::StoredBundle {
    let image = api::Image {
        chain_id: bundle.image.chain_id.to_string(),
        manifest_digest: bundle.image.manifest.map(|m| m.to_string()).unwrap_or_default(),
        reference: bundle.image.reference.clone(),
        profile: String::new(),
    };
    api::StoredBundle {
        image: Some(image),
        repository: bundle.repository().to_owned(),
        objects: bundle.objects.len() as u64,
        stored_bytes: bundle.objects.iter().fold(0, |sum, o| sum.saturating_add(o.stored_size)),
    }
}
