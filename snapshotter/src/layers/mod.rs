//! Looking up layers in the mounted repositories.
//!
//! A published layer is at `<mount>/.layers/<first 2 hex digits>/<hex digits>/layerfs`, by the digest of the compressed
//! layer. If a lookup fails for any reason, containerd unpacks the layer, so all failures are the same to containerd;
//! they are counted and logged separately for operators.
//!
//! [`probe`] looks for a layer behind the guard of the mount, as a mount can hang. [`from_bundle`] reads whiteouts from the image's
//! bundle, which saves listing the layer; [`confirm`] lists it later. [`diff_id`] reads what a layer is. [`mount_check`] checks, before a container gets its mounts, that the repositories
//! are still mounted.

mod confirm;
pub mod diff_id;
mod from_bundle;
pub mod mount_check;
mod probe;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bundles::image::Digest;
use node::mount::{Mount, MountError};
use tokio::sync::Semaphore;

use crate::config::{self, Config};
use crate::metrics::{LookupFailure, Metrics, ScanSource};
use crate::snapshots::CvmfsLayer;
use crate::snapshots::store::Store;
use crate::whiteouts::{LayerScan, Whiteouts, walk};

use from_bundle::BundleLayers;

/// A layer found in a repository.
#[derive(Debug)]
pub struct FoundLayer {
    /// The layer as its snapshot will keep it.
    pub layer: CvmfsLayer,
    /// The layer's whiteouts, for its companions.
    pub whiteouts: Whiteouts,
    /// The layer's diff ID, if the repository states it.
    pub diff_id: Option<Digest>,
}

/// Why no repository gave a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// No repository has it.
    Absent,
    /// A repository could not be read, and no other has it.
    Unknown,
}

/// The repositories of the configuration.
#[derive(Debug)]
pub struct Repositories {
    repositories: Vec<Arc<Repository>>,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Repositories {
    /// The configured repositories, in order of preference. No mount is read yet.
    pub fn new(config: &Config, store: &Arc<Store>, metrics: &Arc<Metrics>) -> Self {
        let repository = |repository| {
            let repository =
                Repository::new(repository, config.check_bundles_after, Arc::clone(store), Arc::clone(metrics));
            Arc::new(repository)
        };
        let repositories = config.repositories.iter().map(repository).collect();
        Self { repositories, timeout: config.lookup_timeout, metrics: Arc::clone(metrics) }
    }

    /// Compares what bundles list about layers with the layers, where that was not done before the last stop. Must be called in a tokio
    /// runtime.
    pub fn confirm_pending(&self) {
        for repository in &self.repositories {
            for digest in repository.store.unconfirmed_layers(&repository.name) {
                repository.confirm(digest);
            }
        }
    }

    /// Looks up a layer in all repositories at once and returns it from the first, in the order of the configuration, that
    /// has it. `manifest` is the manifest of the image being pulled: the image's bundle may list the layer's whiteouts.
    pub async fn find(&self, digest: Digest, manifest: Option<Digest>) -> Result<FoundLayer, NotFound> {
        // Each lookup is a task, so that one whose result is not needed still finds out whether its mount hangs.
        let start =
            |repository: &Arc<Repository>| tokio::spawn(Arc::clone(repository).find(digest, manifest, self.timeout));
        let lookups: Vec<_> = self.repositories.iter().map(start).collect();
        let mut not_found = NotFound::Absent;
        for (repository, lookup) in self.repositories.iter().zip(lookups) {
            match lookup.await {
                Ok(Ok(Some(scan))) => {
                    repository.note_success();
                    if scan.is_from_bundle {
                        repository.confirm(digest);
                    }
                    return Ok(repository.found(digest, scan));
                }
                Ok(Ok(None)) => repository.note_success(),
                Ok(Err(error)) => {
                    repository.note_failure(&error);
                    not_found = NotFound::Unknown;
                }
                Err(error) => {
                    tracing::error!(repository = repository.name, %error, "lookup panicked");
                    not_found = NotFound::Unknown;
                }
            }
        }
        Err(not_found)
    }
}

#[derive(Debug)]
struct Repository {
    name: String,
    mount: Mount,
    bundles: BundleLayers,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    /// The last lookup failed. For one log line when failures begin and one when they end.
    is_failing: AtomicBool,
    /// A bundle of this repository listed other whiteouts than a layer has. Bundles are not used any more until the next start.
    distrusts_bundles: AtomicBool,
    /// Time from the pull of a layer to its comparison with the bundle.
    confirm_after: Duration,
    /// One permit.
    confirming: Semaphore,
}

impl Repository {
    fn new(config: &config::Repository, confirm_after: Duration, store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            name: config.name.clone(),
            mount: Mount::new(&config.mount),
            bundles: BundleLayers::default(),
            store,
            metrics,
            is_failing: AtomicBool::new(false),
            distrusts_bundles: AtomicBool::new(false),
            confirm_after,
            confirming: Semaphore::new(1),
        }
    }

    /// Looks up a layer and scans it.
    async fn find(
        self: Arc<Self>,
        digest: Digest,
        manifest: Option<Digest>,
        timeout: Duration,
    ) -> Result<Option<LayerScan>, MountError> {
        let this = Arc::clone(&self);
        let scan = move |layerfs: &Path| this.record(&digest, manifest.as_ref(), layerfs);
        probe::find_layer(&self.mount, digest, timeout, scan).await
    }

    fn found(&self, digest: Digest, scan: LayerScan) -> FoundLayer {
        let layer = CvmfsLayer {
            repository: self.name.clone(),
            digest,
            layerfs: probe::layerfs(self.mount.path(), &digest),
            owner: scan.owner,
            companion_above: scan.whiteouts.any(),
            companion_below: scan.whiteouts.delete_anything(),
        };
        FoundLayer { layer, whiteouts: scan.whiteouts, diff_id: scan.diff_id }
    }

    /// What is kept about the layer at `layerfs`: from the database, or from a new scan.
    fn record(&self, layer: &Digest, manifest: Option<&Digest>, layerfs: &Path) -> io::Result<LayerScan> {
        let stored = self.store.layer_scan(&self.name, layer).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the stored scan of a layer; the layer is scanned again");
            None
        });
        if let Some(stored) = stored.as_ref().filter(|stored| stored.diff_id.is_some()) {
            return Ok(stored.clone());
        }
        // A publisher may state the diff ID later.
        let diff_id = diff_id::read(self.mount.path(), layer)?;
        let scan = match stored {
            Some(stored) if diff_id.is_none() => return Ok(stored),
            Some(stored) => stored,
            None => self.scan(layer, manifest, layerfs)?,
        };
        let scan = LayerScan { diff_id, ..scan };
        self.store.put_layer_scan(&self.name, layer, &scan).map_err(io::Error::other)?;
        Ok(scan)
    }

    /// The owner and whiteouts of the layer at `layerfs`: from the image's bundle, or by listing the layer.
    fn scan(&self, layer: &Digest, manifest: Option<&Digest>, layerfs: &Path) -> io::Result<LayerScan> {
        let manifest = manifest.filter(|_| !self.distrusts_bundles.load(Ordering::Acquire));
        let from_bundle = manifest.and_then(|manifest| self.bundles.scan(self.mount.path(), manifest, layer, layerfs));
        let (scan, source) = match from_bundle {
            Some(scan) => (scan, ScanSource::Bundle),
            None => (walk::walk(layerfs)?, ScanSource::Listing),
        };
        self.metrics.scanned_layers.increment(source);
        Ok(scan)
    }

    fn note_failure(&self, error: &MountError) {
        self.metrics.failed_lookups.increment(match error {
            MountError::Io { .. } => LookupFailure::Error,
            MountError::Hung { .. } => LookupFailure::Timeout,
            MountError::Busy { .. } => LookupFailure::Skipped,
        });
        if self.is_failing.swap(true, Ordering::AcqRel) {
            tracing::debug!(repository = self.name, %error, "lookup failed again");
        } else {
            tracing::warn!(
                repository = self.name, %error,
                "lookups in this repository fail; layers are downloaded and unpacked until they succeed"
            );
        }
    }

    fn note_success(&self) {
        if self.is_failing.swap(false, Ordering::AcqRel) {
            tracing::info!(repository = self.name, "lookups in this repository succeed again");
        }
    }
}

#[cfg(test)]
mod tests;
