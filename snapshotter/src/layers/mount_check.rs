//! Checking that the layers of a container can be mounted now.
//!
//! A snapshot of a published layer outlives the mount that the layer was found in: clients crash, are updated, are unmounted.
//! containerd would then get a bare "transport endpoint is not connected" from the kernel. So the mount is read before its
//! layers are handed out:
//!
//! - A dead or missing mount is waited for until the deadline. Mounts are named by paths, so a repository that is mounted again
//!   serves the old snapshots at once. Nothing is unmounted here: dead mounts belong to automount or the CVMFS client, and may
//!   be in another mount namespace.
//! - If the mount does not come back, the call fails and names it. The call can be repeated, as a kubelet does.
//! - A mount that does not answer in time is accepted: it may only be slow, and a slow start is better than none.

use std::sync::Arc;
use std::time::Duration;

use bundles::image::Digest;
use node::mount::MountError;
use tokio::time::Instant;

use super::{Repositories, Repository, probe};
use crate::metrics::{DeadMount, LookupFailure};
use crate::snapshots::CvmfsLayer;

/// Time between two reads of a dead mount.
const PAUSE: Duration = Duration::from_millis(50);

/// A published layer that cannot be mounted now.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use layer {digest} of {repository}: {reason}; mount the repository again, or remove and pull the image"
)]
pub struct LayerUnavailable {
    digest: Digest,
    repository: String,
    reason: String,
}

impl Repositories {
    /// Checks the mounts of these layers; one layer per repository is enough.
    pub async fn check_mounted(&self, layers: &[CvmfsLayer]) -> Result<(), LayerUnavailable> {
        let deadline = Instant::now() + self.timeout;
        for layer in layers {
            // Of a repository that is no longer configured, the kernel reports the error.
            let has_layer = |repository: &&Arc<Repository>| {
                repository.name == layer.repository && layer.layerfs.starts_with(repository.mount.path())
            };
            if let Some(repository) = self.repositories.iter().find(has_layer) {
                self.check_layer(repository, layer, deadline).await?;
            }
        }
        Ok(())
    }

    async fn check_layer(
        &self,
        repository: &Arc<Repository>,
        layer: &CvmfsLayer,
        deadline: Instant,
    ) -> Result<(), LayerUnavailable> {
        let mut was_dead = false;
        loop {
            let timeout = deadline.saturating_duration_since(Instant::now());
            let error = match probe::find_layer(&repository.mount, layer.digest, timeout, |_| Ok(())).await {
                Ok(Some(())) => {
                    repository.note_success();
                    if was_dead {
                        self.metrics.dead_mounts.increment(DeadMount::Recovered);
                    }
                    return Ok(());
                }
                Ok(None) => {
                    repository.note_success();
                    let reason = format!("it is no longer in {}", repository.mount.path().display());
                    return Err(self.refuse(layer, &reason));
                }
                Err(MountError::Busy { .. }) => {
                    // Many lookups at once, or a mount that hangs and was logged before.
                    tracing::debug!(repository = repository.name, "mount not checked: earlier lookups have not ended");
                    self.metrics.failed_lookups.increment(LookupFailure::Skipped);
                    return Ok(());
                }
                Err(error @ MountError::Hung { .. }) => {
                    repository.note_failure(&error);
                    return Ok(());
                }
                Err(error @ MountError::Io { .. }) => error,
            };
            if !was_dead {
                was_dead = true;
                self.metrics.dead_mounts.increment(DeadMount::Detected);
                repository.note_failure(&error);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(self.refuse(layer, &error.to_string()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refuse(&self, layer: &CvmfsLayer, reason: &str) -> LayerUnavailable {
        self.metrics.dead_mounts.increment(DeadMount::Refused);
        LayerUnavailable { digest: layer.digest, repository: layer.repository.clone(), reason: reason.to_owned() }
    }
}
