//! What an image's bundle tells of its layers, so that they need not be looked through.
//!
//! The bundle is in the repository that has the layers, so whoever could lie in it could as well have published other layers.
//! It is used only for a layer whose root looks as it tells: a client may be configured to show other owners than those
//! that are published.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bundles::bundle::{Bundle, PublishedLayer};
use bundles::file::FileError;
use bundles::image::Digest;
use bundles::publish::manifest_path;

use crate::usage::DEPTH_LIMIT;
use crate::whiteouts::Examined;

/// The bundles of one repository.
#[derive(Debug)]
pub(super) struct Told {
    mount: PathBuf,
    /// What the bundle of the last manifest tells: layers of one image are asked for one after the other.
    last: Mutex<Option<(Digest, Arc<[PublishedLayer]>)>>,
}

impl Told {
    pub(super) fn new(mount: PathBuf) -> Self {
        Self { mount, last: Mutex::default() }
    }

    /// What the bundle of the image with this manifest tells of the layer at `layerfs`; `None` if there is none, or it does
    /// not tell. Blocks as long as the mount does.
    pub(super) fn layer(&self, manifest: &Digest, layer: &Digest, layerfs: &Path) -> Option<Examined> {
        let layers = self.layers(manifest);
        let told = layers.iter().find(|told| told.digest == *layer)?;
        let root = told.directories.first()?;
        // A companion is made with one descriptor for each directory on the way, as a walk is.
        if told.directories.iter().any(|directory| directory.path.components().count() > DEPTH_LIMIT) {
            return None;
        }
        let is = std::fs::symlink_metadata(layerfs).ok()?;
        let shown = (is.mode() & 0o7777, is.uid(), is.gid(), is.mtime());
        // Not all clients show nanoseconds.
        if shown != (root.mode, root.uid, root.gid, root.mtime.0) {
            tracing::debug!(%layer, "the mount shows another root than the image's bundle tells");
            return None;
        }
        Some(Examined::told(told))
    }

    fn layers(&self, manifest: &Digest) -> Arc<[PublishedLayer]> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, layers)) = last().as_ref().filter(|(of, _)| of == manifest) {
            return Arc::clone(layers);
        }
        // Nothing is held meanwhile: the mount may hang.
        let layers: Arc<[PublishedLayer]> = match Bundle::read(&self.mount.join(manifest_path(manifest))) {
            Ok(bundle) => bundle.layers.into(),
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Arc::default(),
            Err(error) => {
                tracing::warn!(%error, "the image's bundle cannot be read; its layers are looked through instead");
                Arc::default()
            }
        };
        *last() = Some((*manifest, Arc::clone(&layers)));
        layers
    }
}
