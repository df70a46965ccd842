//! A repository's tree through its mount.

use std::io;
use std::path::Path;
use std::time::Duration;

use bundles::bundle::{Bundle, PackRef};
use bundles::cvmfs::content_version;
use bundles::file::FileError;
use bundles::pack::PublishedPack as Pack;
use bundles::publish::{DIRECTORY, bundle_path, manifest_path};
use bundles::store::Origin;
use node::mount::{Call, Mount};

use super::lookup::{Found, Miss, check_image};
use super::packs;
use crate::request::image_query::ImageQuery;

/// The tree of one repository.
#[derive(Debug)]
pub(super) struct MountSource {
    pub(super) mount: Mount,
    timeout: Duration,
}

/// What there is of an image's bundle.
pub(super) enum Sight {
    /// The one that is known.
    Same,
    /// Another one.
    Found { found: Box<Found>, origin: Origin },
}

impl MountSource {
    pub(super) fn new(mount: Mount, timeout: Duration) -> Self {
        Self { mount, timeout }
    }

    /// Looks up the bundle of `wanted`. For one that is stored, `known` is its version; then the lookup does not wait for others on
    /// the same mount.
    pub(super) async fn look(&self, wanted: &ImageQuery, known: Option<&str>) -> Result<Sight, Miss> {
        let by_chain = wanted.chain.iter().map(bundle_path);
        let by_manifest = wanted.manifest.iter().map(manifest_path);
        let paths: Vec<_> = by_chain.chain(by_manifest).collect();
        let version = known.map(str::to_owned);
        let look = move |call: &Call| {
            for path in &paths {
                let path = call.root().join(path);
                match read(call, &path, version.as_deref()) {
                    Ok(Some(seen)) => return Ok(Ok(Some((path, seen)))),
                    Ok(None) => {}
                    Err(miss) => return Ok(Err(miss)),
                }
            }
            // What is not mounted has not lost its bundles.
            Ok(if call.root().join(DIRECTORY).is_dir() { Ok(None) } else { Err(Miss::Absent) })
        };
        let looked = match known {
            None => self.mount.run(self.timeout, look).await,
            Some(_) => self.mount.try_run(self.timeout, look).await,
        };
        match looked.map_err(|error| Miss::NoAnswer(error.to_string()))?? {
            None => Err(Miss::Gone),
            Some((_, (_, None))) => Ok(Sight::Same),
            Some((path, (version, Some(bundle)))) => {
                let place = path.to_string_lossy().into_owned();
                check_image(&place, &bundle, wanted)?;
                let origin = Origin { mount: self.mount.path().to_owned(), version };
                Ok(Sight::Found { found: Box::new(Found { bundle, place }), origin })
            }
        }
    }

    /// Looks up the objects that packs consist of.
    pub(super) async fn packs(&self, packs: &[PackRef], timeout: Duration) -> Result<Vec<Option<Pack>>, String> {
        let wanted = packs.to_vec();
        let located = self.mount.try_run(timeout, move |call| Ok(packs::locate(call.root(), &wanted))).await;
        located.map_err(|error| error.to_string())?
    }
}

/// Reads a bundle, unless its version is the known one; `None` if there is no such file.
fn read(call: &Call, path: &Path, known: Option<&str>) -> Result<Option<(String, Option<Bundle>)>, Miss> {
    // Before it is read: should it change in between, the next look sees a version that is not known.
    let version = match content_version(path) {
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(Miss::NoAnswer(format!("{}: {e}", path.display()))),
        Ok(version) => version,
    };
    call.responded();
    if known == Some(version.as_str()) {
        return Ok(Some((version, None)));
    }
    match Bundle::read(path) {
        Ok(bundle) => Ok(Some((version, Some(bundle)))),
        Err(FileError::Io { source, .. }) if is_absent(&source) => Ok(None),
        Err(e @ FileError::Io { .. }) => Err(Miss::NoAnswer(e.to_string())),
        Err(e) => Err(Miss::Unusable(e.to_string())),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
