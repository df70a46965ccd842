//! Bundles and packs in a repository, read through its mount.

use std::io;
use std::path::Path;
use std::time::Duration;

use bundles::attribute::content_version;
use bundles::bundle::{Bundle, PackRef};
use bundles::file::FileError;
use bundles::layout::{BUNDLES, bundle_path, manifest_path};
use bundles::pack::PublishedPack as Pack;
use bundles::store::Origin;
use node::mount::{Call, Mount};

use super::lookup::{FoundBundle, LookupError, check_image};
use super::packs::{self, PackLookupError};
use crate::request::image_query::ImageQuery;

/// A mounted repository.
#[derive(Debug)]
pub(super) struct MountSource {
    pub(super) mount: Mount,
    timeout: Duration,
}

/// Result of a lookup in a repository.
pub(super) enum MountLookup {
    /// The repository has the known version.
    Unchanged,
    /// The repository has a bundle, or another version of the known one.
    Found { found: Box<FoundBundle>, origin: Origin },
}

impl MountSource {
    pub(super) fn new(mount: Mount, timeout: Duration) -> Self {
        Self { mount, timeout }
    }

    /// Looks up the bundle of `query`. For one that is stored, `known` is its version; then the lookup does not wait for others on
    /// the same mount.
    pub(super) async fn find(&self, query: &ImageQuery, known: Option<&str>) -> Result<MountLookup, LookupError> {
        let by_chain = query.chain.iter().map(bundle_path);
        let by_manifest = query.manifest.iter().map(manifest_path);
        let paths: Vec<_> = by_chain.chain(by_manifest).collect();
        let version = known.map(str::to_owned);
        let find = move |call: &Call| {
            for path in &paths {
                let path = call.root().join(path);
                match read(call, &path, version.as_deref()) {
                    Ok(Some(seen)) => return Ok(Ok(Some((path, seen)))),
                    Ok(None) => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
            // Without the directory of bundles, the repository is not mounted.
            Ok(if call.root().join(BUNDLES).is_dir() { Ok(None) } else { Err(LookupError::Absent) })
        };
        let found = match known {
            None => self.mount.run(self.timeout, find).await,
            Some(_) => self.mount.try_run(self.timeout, find).await,
        };
        match found.map_err(|error| LookupError::NoAnswer(error.to_string()))?? {
            None => Err(LookupError::Removed),
            Some((_, (_, None))) => Ok(MountLookup::Unchanged),
            Some((path, (version, Some(bundle)))) => {
                let source = path.to_string_lossy().into_owned();
                check_image(&source, &bundle, query)?;
                let origin = Origin { mount: self.mount.path().to_owned(), version };
                Ok(MountLookup::Found { found: Box::new(FoundBundle { bundle, source }), origin })
            }
        }
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

/// Reads a bundle, unless its version is the known one; `None` if there is no such file.
fn read(call: &Call, path: &Path, known: Option<&str>) -> Result<Option<(String, Option<Bundle>)>, LookupError> {
    // Before the bundle is read: if the file changes in between, the next lookup sees another version.
    let version = match content_version(path) {
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(LookupError::NoAnswer(format!("{}: {e}", path.display()))),
        Ok(version) => version,
    };
    call.responded();
    if known == Some(version.as_str()) {
        return Ok(Some((version, None)));
    }
    match Bundle::read(path) {
        Ok(bundle) => Ok(Some((version, Some(bundle)))),
        Err(FileError::Io { source, .. }) if is_absent(&source) => Ok(None),
        Err(e @ FileError::Io { .. }) => Err(LookupError::NoAnswer(e.to_string())),
        Err(e) => Err(LookupError::Unusable(e.to_string())),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
