//! Looking up layers in the mounted repositories.
//!
//! A published layer is at `<mount>/.layers/<first 2 hex digits>/<hex digits>/layerfs`, by the digest of the compressed
//! layer. If a lookup fails for any reason, containerd unpacks the layer, so all failures are the same to containerd;
//! they are counted and logged separately for operators.
//!
//! [`probe`] reads a mount behind a guard, as a mount can hang. [`from_bundle`] reads a layer's whiteouts from the image's
//! bundle, which saves listing the layer. [`mount_check`] checks, before a container gets its mounts, that the repositories
//! are still mounted.

mod from_bundle;
pub mod mount_check;
mod probe;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bundles::image::Digest;
use tokio::time::Instant;

use crate::config;
use crate::metrics::{LookupFailure, Metrics, ScanSource};
use crate::snapshots::CvmfsLayer;
use crate::snapshots::store::Store;
use crate::whiteouts::{LayerScan, Whiteouts, walk};

use from_bundle::BundleLayers;
use probe::{Guard, Lookup, LookupError};

/// A layer found in a repository.
#[derive(Debug)]
pub struct FoundLayer {
    /// The layer as its snapshot will keep it.
    pub layer: CvmfsLayer,
    /// The layer's whiteouts, for its companions.
    pub whiteouts: Whiteouts,
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
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl Repositories {
    /// The configured repositories, in order of preference. No mount is read yet.
    pub fn new(
        repositories: &[config::Repository],
        timeout: Duration,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let repositories = repositories.iter().map(|repository| Arc::new(Repository::new(repository))).collect();
        Self { repositories, timeout, store, metrics }
    }

    /// Looks up a layer in all repositories at once and returns it from the first, in the order of the configuration, that
    /// has it. `manifest` is the manifest of the image being pulled: the image's bundle may list the layer's whiteouts.
    pub async fn find(&self, digest: Digest, manifest: Option<Digest>) -> Result<FoundLayer, NotFound> {
        let deadline = Instant::now() + self.timeout;
        let start = |repository| self.start_lookup(repository, digest, manifest);
        let lookups: Vec<_> = self.repositories.iter().map(start).collect();
        let mut not_found = NotFound::Absent;
        for (repository, lookup) in self.repositories.iter().zip(lookups) {
            match probe::wait(&repository.guard, lookup, deadline).await {
                Ok(Some(scan)) => {
                    repository.note_success();
                    return Ok(repository.found(digest, scan));
                }
                Ok(None) => repository.note_success(),
                Err(error) => {
                    not_found = NotFound::Unknown;
                    self.note_failure(repository, &error);
                }
            }
        }
        Err(not_found)
    }

    /// Starts the lookup and, if the layer is there, the scan. Both are on one thread, which nobody stops: the result of a
    /// late one is kept for the next pull.
    fn start_lookup(
        &self,
        repository: &Arc<Repository>,
        digest: Digest,
        manifest: Option<Digest>,
    ) -> Option<Lookup<LayerScan>> {
        let (store, metrics, scanned) = (Arc::clone(&self.store), Arc::clone(&self.metrics), Arc::clone(repository));
        probe::start(repository, digest, move |found| {
            found.map(|layerfs| scanned.scan(&digest, manifest.as_ref(), &layerfs, &store, &metrics)).transpose()
        })
    }

    fn note_failure(&self, repository: &Repository, error: &LookupError) {
        repository.note_failure(error);
        self.metrics.failed_lookups.increment(match error {
            LookupError::Io(_) => LookupFailure::Error,
            LookupError::Timeout => LookupFailure::Timeout,
            LookupError::Busy => LookupFailure::Skipped,
        });
    }
}

/// The root directory of a published layer.
fn layerfs(mount: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    mount.join(".layers").join(&hex[..2]).join(&hex).join("layerfs")
}

#[derive(Debug)]
struct Repository {
    name: String,
    mount: PathBuf,
    bundles: BundleLayers,
    guard: Guard,
    /// The last lookup failed. For one log line when failures begin and one when they end.
    is_failing: AtomicBool,
}

impl Repository {
    fn new(config: &config::Repository) -> Self {
        Self {
            name: config.name.clone(),
            mount: config.mount.clone(),
            bundles: BundleLayers::new(config.mount.clone()),
            guard: Guard::default(),
            is_failing: AtomicBool::new(false),
        }
    }

    fn found(&self, digest: Digest, scan: LayerScan) -> FoundLayer {
        let layer = CvmfsLayer {
            repository: self.name.clone(),
            digest,
            layerfs: layerfs(&self.mount, &digest),
            owner: scan.owner,
            companion_above: scan.whiteouts.any(),
            companion_below: scan.whiteouts.delete_anything(),
        };
        FoundLayer { layer, whiteouts: scan.whiteouts }
    }

    /// The owner and whiteouts of the layer at `layerfs`: from the database, from the image's bundle, or by listing the
    /// layer.
    fn scan(
        &self,
        layer: &Digest,
        manifest: Option<&Digest>,
        layerfs: &Path,
        store: &Store,
        metrics: &Metrics,
    ) -> io::Result<LayerScan> {
        if let Some(scan) = store.layer_scan(&self.name, layer).map_err(io::Error::other)? {
            return Ok(scan);
        }
        let from_bundle = manifest.and_then(|manifest| self.bundles.scan(manifest, layer, layerfs));
        let (scan, source) = match from_bundle {
            Some(scan) => (scan, ScanSource::Bundle),
            None => (walk::walk(layerfs)?, ScanSource::Listing),
        };
        store.put_layer_scan(&self.name, layer, &scan).map_err(io::Error::other)?;
        metrics.scanned_layers.increment(source);
        Ok(scan)
    }

    fn note_failure(&self, error: &LookupError) {
        let mount = self.mount.display();
        if self.is_failing.swap(true, Ordering::AcqRel) {
            tracing::debug!(repository = self.name, %mount, %error, "lookup failed again");
        } else {
            tracing::warn!(
                repository = self.name, %mount, %error,
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
