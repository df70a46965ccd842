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

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bundles::image::Digest;
use tokio::time::Instant;

use super::probe::{self, LookupError};
use super::{Repositories, Repository};
use crate::metrics::DeadMount;
use crate::snapshots::CvmfsLayer;

/// Time between two reads of a dead mount.
const PAUSE: Duration = Duration::from_millis(50);

/// A published layer that cannot be mounted now.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use layer {digest} of {repository} at {mount}: {reason}; mount the repository again, or remove and pull the image"
)]
pub struct LayerUnavailable {
    digest: Digest,
    repository: String,
    mount: PathBuf,
    reason: String,
}

impl Repositories {
    /// Checks the mounts of these layers; one layer per repository is enough.
    pub async fn check_mounted(&self, layers: &[CvmfsLayer]) -> Result<(), LayerUnavailable> {
        let deadline = Instant::now() + self.timeout;
        for layer in layers {
            // Of a repository that is no longer configured, the kernel reports the error.
            let has_layer = |repository: &&Arc<Repository>| {
                repository.name == layer.repository && layer.layerfs.starts_with(&repository.mount)
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
            let lookup = probe::start(repository, layer.digest, |path| Ok(path.map(drop)));
            let error = match probe::wait(&repository.guard, lookup, deadline).await {
                Ok(Some(())) => {
                    repository.note_success();
                    if was_dead {
                        self.metrics.dead_mounts.increment(DeadMount::Recovered);
                    }
                    return Ok(());
                }
                Ok(None) => {
                    repository.note_success();
                    return Err(self.refuse(repository, layer, "the repository no longer has it"));
                }
                Err(LookupError::Busy) => {
                    // Many lookups at once, or a mount that hangs and was logged before.
                    tracing::debug!(repository = repository.name, "mount not checked: earlier lookups have not ended");
                    self.metrics.failed_lookups.increment(crate::metrics::LookupFailure::Skipped);
                    return Ok(());
                }
                Err(error @ LookupError::Timeout) => {
                    self.note_failure(repository, &error);
                    return Ok(());
                }
                Err(error @ LookupError::Io(_)) => error,
            };
            if !was_dead {
                was_dead = true;
                self.metrics.dead_mounts.increment(DeadMount::Detected);
                self.note_failure(repository, &error);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(self.refuse(repository, layer, &error.to_string()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refuse(&self, repository: &Repository, layer: &CvmfsLayer, reason: &str) -> LayerUnavailable {
        self.metrics.dead_mounts.increment(DeadMount::Refused);
        LayerUnavailable {
            digest: layer.digest,
            repository: layer.repository.clone(),
            mount: repository.mount.clone(),
            reason: reason.to_owned(),
        }
    }
}
