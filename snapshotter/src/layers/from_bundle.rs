//! The whiteouts of published layers as an image's bundle lists them, so that the layers need not be listed.
//!
//! Who may publish bundles may not be who publishes layers, so the layer is listed later all the same: see [`super::confirm`]. A bundle
//! is used only for a layer whose root directory has the attributes that the bundle lists: a client may be configured
//! to show other owners than the published ones.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bundles::bundle::{Bundle, PublishedLayer};
use bundles::image::Digest;
use bundles::layout::manifest_path;
use node::below;
use parking_lot::Mutex;

use crate::whiteouts::{LayerScan, MAX_DEPTH};

/// Largest bundle that is read, in bytes. Of a larger one, the layers are listed instead.
const MAX_BUNDLE: u64 = 32 << 20;
/// Most bytes of a bundle's layers, encoded. The memory that they take is a small multiple of it.
const MAX_LAYERS: usize = 4 << 20;

/// The bundles of one repository.
#[derive(Debug, Default)]
pub(super) struct BundleLayers {
    /// The layers in the bundle of the last manifest: containerd prepares the layers of an image one after the other.
    last: Mutex<Option<(Digest, Arc<[PublishedLayer]>)>>,
}

impl BundleLayers {
    /// The scan of the layer at `layerfs` from the bundle of the image with this manifest; `None` if there is no bundle or
    /// the bundle does not list the layer as it is. Must be called in a guarded call of the mount.
    pub(super) fn scan(&self, mount: &Path, manifest: &Digest, layer: &Digest, layerfs: &Path) -> Option<LayerScan> {
        let layers = self.layers(mount, manifest);
        let listed = layers.iter().find(|listed| listed.digest == *layer)?;
        let root = listed.directories.first()?;
        // Making a companion takes one descriptor for each directory of a path, as a walk does.
        if listed.directories.iter().any(|directory| directory.path.components().count() > MAX_DEPTH) {
            return None;
        }
        let found = std::fs::symlink_metadata(layerfs).ok()?;
        let attributes = (found.mode() & 0o7777, found.uid(), found.gid(), found.mtime());
        // Not all clients show nanoseconds.
        if attributes != (root.mode, root.uid, root.gid, root.mtime.0) {
            tracing::debug!(%layer, "bundle not used for this layer: its root directory has other attributes");
            return None;
        }
        Some(LayerScan::from_bundle(listed))
    }

    fn layers(&self, mount: &Path, manifest: &Digest) -> Arc<[PublishedLayer]> {
        if let Some((_, layers)) = self.last.lock().as_ref().filter(|(last, _)| last == manifest) {
            return Arc::clone(layers);
        }
        // The lock is not held during the read: the mount may hang.
        let layers = read(mount, manifest).unwrap_or_else(|error| {
            tracing::warn!(%manifest, %error, "cannot read the image's bundle; its layers are listed instead");
            Arc::default()
        });
        *self.last.lock() = Some((*manifest, Arc::clone(&layers)));
        layers
    }
}

/// Reads the layers of the bundle; none if there is no bundle.
fn read(mount: &Path, manifest: &Digest) -> io::Result<Arc<[PublishedLayer]>> {
    match below::read(mount, Path::new(&manifest_path(manifest)), MAX_BUNDLE) {
        Ok(bundle) => Bundle::layers_from_bytes(&bundle, MAX_LAYERS).map(Into::into).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Arc::default()),
        Err(error) => Err(error),
    }
}
