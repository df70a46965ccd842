//! Bundles and packs in a repository, read through its mount.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::limits::MAX_BUNDLE;
use bundles::attribute::content_version;
use bundles::bundle::PackRef;
use bundles::layout::{BUNDLES, bundle_path, manifest_path};
use bundles::pack::PublishedPack as Pack;
use bundles::store::Origin;
use node::below::{Links, Resolved, resolve};
use node::mount::{Call, Mount, MountError};
use tokio::sync::Semaphore;

use super::lookup::{Fetched, LookupError, check_image};
use super::packs::{self, PackLookupError, is_absent};
use super::presence::Presence;
use crate::bundle_memory::BundleMemory;
use crate::request::image_query::ImageQuery;

/// Longest wait until the files of other requests are decoded. A stored bundle does not wait that long for a newer one.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A mounted repository.
#[derive(Debug)]
pub(super) struct MountSource {
    pub(super) mount: Mount,
    timeout: Duration,
    /// Whether the repository has bundles.
    pub(super) presence: Presence,
    /// One file of the repository is in memory at a time.
    reading: Arc<Semaphore>,
}

/// Result of a lookup in a repository.
pub(super) enum MountLookup {
    /// The repository has the known version.
    Unchanged,
    /// The repository has a bundle, or another version of the known one.
    Found(Box<Fetched>),
}

/// A file that was found and not read.
struct Seen {
    file: Resolved,
    version: String,
    path: PathBuf,
}

impl MountSource {
    pub(super) fn new(mount: Mount, timeout: Duration) -> Self {
        Self { mount, timeout, presence: Presence::default(), reading: Arc::new(Semaphore::new(1)) }
    }

    /// Looks up the bundle of `query`. For one that is stored, `known` is its version; then the lookup does not wait for others on
    /// the same mount.
    pub(super) async fn find(
        &self,
        query: &ImageQuery,
        known: Option<&str>,
        memory: &BundleMemory,
    ) -> Result<MountLookup, LookupError> {
        let by_chain = query.chain.iter().map(bundle_path);
        let by_manifest = query.manifest.iter().map(manifest_path);
        let paths: Vec<_> = by_chain.chain(by_manifest).collect();
        let presence = self.presence.clone();
        let find = move |call: &Call| {
            let revision = presence.first_revision(call.root());
            for path in &paths {
                match look(call, path) {
                    Ok(Some(seen)) => {
                        presence.found(revision);
                        return Ok(Ok(Some(seen)));
                    }
                    Ok(None) => {}
                    found => return Ok(found),
                }
            }
            // Without the directory of bundles, the repository has none, or is not mounted.
            if call.root().join(BUNDLES).is_dir() {
                presence.found(revision);
                return Ok(Ok(None));
            }
            presence.not_found(call.root());
            Ok(Err(LookupError::Absent))
        };
        let no_answer = |error: MountError| LookupError::NoAnswer(error.to_string());
        let found = match known {
            None => self.mount.run(self.timeout, find).await,
            Some(_) => self.mount.try_run(self.timeout, find).await,
        };
        let Seen { file, version, path } = found.map_err(no_answer)??.ok_or(LookupError::Removed)?;
        if known == Some(version.as_str()) {
            return Ok(MountLookup::Unchanged);
        }
        let busy = || LookupError::NoAnswer(format!("{}: another bundle is being read", self.mount.path().display()));
        let max_wait = if known.is_some() { self.timeout } else { MAX_WAIT };
        let reading = tokio::time::timeout(max_wait, self.reading.clone().acquire_owned()).await;
        let reading = reading.map_err(|_| busy())?.map_err(|_| busy())?;
        let source = path.to_string_lossy().into_owned();
        let read = self.mount.run(self.timeout, move |call| {
            // It has just found the file: if it is slow now, it has a download to do.
            call.responded();
            Ok(read(&file, &path))
        });
        let read = read.await;
        let file = Arc::new(read.map_err(no_answer)??);
        let bundle = memory.decode(&file).await.map_err(|error| LookupError::not_decoded(&source, &error))?;
        check_image(&source, &bundle, query)?;
        let origin = Origin::Repository { mount: self.mount.path().to_owned(), version };
        Ok(MountLookup::Found(Box::new(Fetched { bundle, file, source, origin, _reading: reading })))
    }

    /// Looks up the objects that packs consist of.
    pub(super) async fn packs(
        &self,
        packs: &[PackRef],
        timeout: Duration,
    ) -> Result<Vec<Option<Pack>>, PackLookupError> {
        let packs = packs.to_vec();
        self.mount.try_run(timeout, move |call| Ok(packs::locate(call.root(), &packs))).await?
    }
}

/// Looks for the bundle at `path` below the mount; `None` if there is no such file.
fn look(call: &Call, path: &str) -> Result<Option<Seen>, LookupError> {
    let full = call.root().join(path);
    let about_path = |error: &dyn std::fmt::Display| format!("{}: {error}", full.display());
    let no_answer = |error: io::Error| LookupError::NoAnswer(about_path(&error));
    let file = match resolve(call.root(), Path::new(path), Links::Inside) {
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            return Err(LookupError::Unusable(about_path(&"leads out of the repository")));
        }
        found => found.map_err(no_answer)?,
    };
    if !file.metadata().is_file() {
        return Err(LookupError::Unusable(about_path(&"not a regular file")));
    }
    // Before the bundle is read: if the file changes in between, the next lookup sees another version.
    let version = content_version(&file.path()).map_err(no_answer)?;
    Ok(Some(Seen { file, version, path: full }))
}

/// Reads a bundle file.
fn read(file: &Resolved, path: &Path) -> Result<Vec<u8>, LookupError> {
    let size = file.metadata().len();
    if size > MAX_BUNDLE as u64 {
        let path = path.display();
        return Err(LookupError::Unusable(format!("{path}: {size} bytes, at most {MAX_BUNDLE} are read")));
    }
    file.read(MAX_BUNDLE as u64).map_err(|error| LookupError::NoAnswer(format!("{}: {error}", path.display())))
}
