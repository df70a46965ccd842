//! A repository's tree through its mount.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bundles::bundle::{Bundle, PackRef};
use bundles::cvmfs::version;
use bundles::file::FileError;
use bundles::pack::PackPlace as Pack;
use bundles::publish::{DIRECTORY, bundle_path, manifest_path};
use bundles::store::Origin;
use tokio::sync::Semaphore;

use super::lookup::{Found, Miss, check_image, within};
use super::packs;
use crate::request::image_query::ImageQuery;

/// Most threads that read through one mount. The CVMFS client serves 10 before it makes others wait.
const READERS: usize = 4;

/// One mount.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) path: PathBuf,
    deadline: Duration,
    readers: Arc<Semaphore>,
}

/// What there is of an image's bundle.
pub(super) enum Sight {
    /// The one that is known.
    Same,
    /// Another one.
    Found { found: Box<Found>, origin: Origin },
}

impl Mount {
    pub(super) fn new(path: PathBuf, deadline: Duration) -> Self {
        Self { path, deadline, readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// Looks for the bundle of `wanted`. Of one that is stored, `known` is the version: then a mount on which all readers are
    /// out is not waited for.
    pub(super) async fn look(&self, wanted: &ImageQuery, known: Option<&str>) -> Result<Sight, Miss> {
        let by_chain = wanted.chain.iter().map(bundle_path);
        let by_manifest = wanted.manifest.iter().map(manifest_path);
        let paths: Vec<PathBuf> = by_chain.chain(by_manifest).map(|path| self.path.join(path)).collect();
        let what = format!("mount {}", self.path.display());
        let no_answer = || Miss::NoAnswer(format!("{what} did not answer: {READERS} reads are waiting for it"));
        let patience = if known.is_some() { Duration::ZERO } else { self.deadline };
        let reader = tokio::time::timeout(patience, self.readers.clone().acquire_owned()).await;
        let Ok(Ok(reader)) = reader else { return Err(no_answer()) };
        let (known, shelf) = (known.map(str::to_owned), self.path.join(DIRECTORY));
        let look = move || {
            // Given back when the read returns, however late.
            let _reader = reader;
            for path in paths {
                if let Some(seen) = read(&path, known.as_deref())? {
                    return Ok(Some((path, seen)));
                }
            }
            // What is not mounted has not lost its bundles.
            if shelf.is_dir() { Ok(None) } else { Err(Miss::Absent) }
        };
        match within(self.deadline, &what, look).await.map_err(Miss::NoAnswer)?? {
            None => Err(Miss::Gone),
            Some((_, (_, None))) => Ok(Sight::Same),
            Some((path, (version, Some(bundle)))) => {
                let place = path.to_string_lossy().into_owned();
                check_image(&place, &bundle, wanted)?;
                let origin = Origin { mount: self.path.clone(), version };
                Ok(Sight::Found { found: Box::new(Found { bundle, place }), origin })
            }
        }
    }

    /// What objects some packs are made of.
    pub(super) async fn packs(&self, packs: &[PackRef], patience: Duration) -> Result<Vec<Option<Pack>>, String> {
        let what = format!("mount {}", self.path.display());
        let Ok(reader) = self.readers.clone().try_acquire_owned() else {
            return Err(format!("{what} did not answer: {READERS} reads are waiting for it"));
        };
        let (mount, wanted) = (self.path.clone(), packs.to_vec());
        let look = move || {
            let _reader = reader;
            packs::locate(&mount, &wanted)
        };
        within(patience, &what, look).await?
    }
}

/// Reads a bundle, unless its version is the known one; `None` if there is no such file.
fn read(path: &Path, known: Option<&str>) -> Result<Option<(String, Option<Bundle>)>, Miss> {
    // Before it is read: should it change in between, the next look sees a version that is not known.
    let version = match version(path) {
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(Miss::NoAnswer(format!("{}: {e}", path.display()))),
        Ok(version) => version,
    };
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
