//! Waits while nobody may write to a cache: the client's tools reload clients or wipe their caches.

use std::time::Duration;

use tracing::{info, warn};

use super::Delivery;
use crate::repository::Repository;

/// Interval of checks, that of the client's mount helper.
const INTERVAL: Duration = Duration::from_millis(250);
/// Such a tool takes seconds. After this time, objects fail instead.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Delivery<'_> {
    /// Waits until objects may be written to the cache of a repository, and makes it usable again. Returns whether it waited.
    pub(super) async fn wait_while_paused(&self, repository: &Repository) -> bool {
        if !repository.destination.is_paused() {
            return false;
        }
        info!(repository = repository.name, "the CVMFS client is being reloaded or its cache wiped: waiting");
        let end = async {
            while repository.destination.is_paused() {
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(TIMEOUT, end) => {}
            () = self.context.shutdown.cancelled() => {}
        }
        let destination = repository.destination.clone();
        match tokio::task::spawn_blocking(move || destination.prepare()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(repository = repository.name, %error, "cache not usable"),
            Err(error) => warn!(repository = repository.name, %error, "cannot prepare the cache"),
        }
        true
    }
}
