//! Whether the layers of a container can be mounted now.
//!
//! A snapshot of a published layer outlives the mount that it was found in: clients crash, are updated, are unmounted.
//! containerd would then get a bare "transport endpoint is not connected" from the kernel. So there is a look at the
//! mount before its layers are handed out:
//!
//! - A mount that is dead or gone is waited for until the deadline. Mounts are named by paths, so one that is mounted
//!   again serves the old snapshots at once. Nothing is unmounted here: dead mounts belong to automount or the CVMFS
//!   client, and to see them at all may take another mount namespace.
//! - If it stays away, the call fails and says which mount it is. It can be tried again, as a kubelet does.
//! - A mount that does not answer in time is left alone: it may be slow only, and a slow start is better than none.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Repositories, Repository, Trouble};
use crate::error::Error;
use crate::snapshot::CvmfsLayer;

/// Between two looks at a mount that is dead.
const PAUSE: Duration = Duration::from_millis(50);

impl Repositories {
    /// Looks at the mounts of these layers, of which one for each repository is enough.
    pub async fn check_mounted(&self, layers: &[CvmfsLayer]) -> Result<(), Error> {
        let deadline = Instant::now() + self.deadline;
        for layer in layers {
            // A repository that left the configuration is the kernel's to refuse.
            let is_its = |repository: &&Arc<Repository>| {
                repository.name == layer.repository && layer.layerfs.starts_with(&repository.mount)
            };
            if let Some(repository) = self.repositories.iter().find(is_its) {
                self.check_one(repository, layer, deadline).await?;
            }
        }
        Ok(())
    }

    async fn check_one(
        &self,
        repository: &Arc<Repository>,
        layer: &CvmfsLayer,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut was_dead = false;
        loop {
            let look_up = self.start(repository, layer.digest, |path| Ok(path.map(drop)));
            let error = match self.wait(repository, look_up, deadline).await {
                Ok(Some(())) => {
                    repository.well();
                    if was_dead {
                        self.counters.mounts_recovered.increment();
                    }
                    return Ok(());
                }
                Ok(None) => {
                    repository.well();
                    return Err(self.refuse(&repository.mount, layer, "the repository does not have it any more"));
                }
                Err(Trouble::Io(error)) => error,
                Err(Trouble::Busy) => {
                    // Very many look-ups at once, or it was told before that it hangs: not worth a warning.
                    tracing::debug!(
                        repository = repository.name,
                        "mount not looked at: earlier look-ups have not ended"
                    );
                    self.counters.lookups_skipped.increment();
                    return Ok(());
                }
                Err(trouble @ Trouble::TimedOut) => {
                    self.troubled(repository, &trouble);
                    return Ok(());
                }
            };
            if !was_dead {
                self.counters.mounts_dead.increment();
                self.troubled(repository, &Trouble::Io(io::Error::new(error.kind(), error.to_string())));
            }
            was_dead = true;
            if Instant::now() + PAUSE >= deadline {
                return Err(self.refuse(&repository.mount, layer, &error.to_string()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn refuse(&self, mount: &Path, layer: &CvmfsLayer, problem: &str) -> Error {
        self.counters.containers_refused.increment();
        Error::Unavailable(format!(
            "layer {} of {} at {}: {problem}: mount the repository again, or remove the image and pull it again",
            layer.digest,
            layer.repository,
            mount.display()
        ))
    }
}
