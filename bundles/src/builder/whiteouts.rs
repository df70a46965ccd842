//! What the layers of an image delete, so that nodes need not look for it.

use std::collections::{BTreeMap, BTreeSet};

use tracing::debug;

use super::tree::Root;
use crate::bundle::{CATALOG_MARKER, PublishedLayer, WhiteoutDirectory};
use crate::cvmfs::{CvmfsError, Entry, Repository};
use crate::image::Digest;
use crate::layout::in_layer;
use crate::path::RootPath;

/// Most whiteouts in a bundle, over all layers. Nodes search layers beyond that themselves: more are rare, and would make the
/// bundle larger for nodes that have the layers already.
const MAX_TOTAL: usize = 10_000;

/// Describes the published layers, lowest first. A layer that the image has twice is listed once.
pub(super) async fn of_layers(root: &Root, repository: &mut Repository) -> Result<Vec<PublishedLayer>, CvmfsError> {
    let mut layers = Vec::new();
    let mut known = BTreeSet::new();
    let mut remaining = MAX_TOTAL;
    for catalog in root.catalogs().iter().rev().filter(|catalog| known.insert(catalog.mountpoint.clone())) {
        match of_layer(&catalog.mountpoint, &mut remaining, repository).await {
            Ok(layer) => layers.extend(layer),
            // A file system may have longer paths than a bundle.
            Err(CvmfsError::Path(bad)) => {
                debug!(layer = %catalog.mountpoint, %bad, "layer not described in the bundle")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(layers)
}

/// Describes the layer whose root and catalog are at `layerfs`; `None` if its whiteouts do not fit.
async fn of_layer(
    layerfs: &RootPath,
    remaining: &mut usize,
    repository: &mut Repository,
) -> Result<Option<PublishedLayer>, CvmfsError> {
    let Some(digest) = in_layer(layerfs).and_then(|(hex, _)| Digest::from_hex(hex)) else { return Ok(None) };
    let mut whiteouts = repository.whiteouts(layerfs).await?;
    let Some(rest) = remaining.checked_sub(whiteouts.len()) else { return Ok(None) };
    *remaining = rest;
    let marker = layerfs.join(CATALOG_MARKER)?;
    if repository.lookup(&marker).await?.is_some() {
        whiteouts.push(marker);
    }
    // Every directory on the way to a whiteout is listed, with or without whiteouts of its own.
    let mut by_directory: BTreeMap<RootPath, BTreeSet<&[u8]>> = BTreeMap::from([(layerfs.clone(), BTreeSet::new())]);
    for whiteout in &whiteouts {
        let mut directory = whiteout.parent();
        if let Some(directory) = &directory {
            by_directory.entry(directory.clone()).or_default().insert(whiteout.name());
        }
        while let Some(above) = directory.filter(|above| above != layerfs) {
            directory = above.parent();
            by_directory.entry(above).or_default();
        }
    }
    let mut directories = Vec::new();
    for (path, whiteouts) in by_directory {
        let (Some(entry), Some((_, path))) = (repository.lookup(&path).await?, in_layer(&path)) else {
            return Ok(None);
        };
        let whiteouts = whiteouts.into_iter().map(<[u8]>::to_vec).collect();
        let Entry { mode, uid, gid, mtime, .. } = entry;
        directories.push(WhiteoutDirectory { path, mode: mode & 0o7777, uid, gid, mtime, whiteouts });
    }
    Ok(Some(PublishedLayer { digest, directories }))
}
