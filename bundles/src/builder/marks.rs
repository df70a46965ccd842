//! What the layers of an image delete, so that nodes need not look for it.

use std::collections::{BTreeMap, BTreeSet};

use tracing::debug;

use super::tree::Root;
use crate::bundle::{CATALOG, MarkedDirectory, PublishedLayer};
use crate::cvmfs::{CvmfsError, Entry, Repository, in_layer};
use crate::image::Digest;
use crate::path::RootPath;

/// The most marks that a bundle tells of, over all layers. Nodes look through those for which there is no room themselves: so
/// many are rare, and would make the bundle larger for nodes that have the layers already.
const MOST: usize = 10_000;

/// What is to be told of the published layers, lowest first. A layer that the image has twice is told of once.
pub(super) async fn of_layers(root: &Root, repository: &mut Repository) -> Result<Vec<PublishedLayer>, CvmfsError> {
    let (mut layers, mut known, mut room) = (Vec::new(), BTreeSet::new(), MOST);
    for catalog in root.catalogs().iter().rev().filter(|catalog| known.insert(catalog.mountpoint.clone())) {
        match of_layer(&catalog.mountpoint, &mut room, repository).await {
            Ok(layer) => layers.extend(layer),
            // Longer than a bundle may name, though a file system may have it.
            Err(CvmfsError::Path(bad)) => {
                debug!(layer = %catalog.mountpoint, %bad, "the bundle does not tell of the layer")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(layers)
}

/// The layer whose root and catalog are at `layerfs`; `None` if there is no room for its marks.
async fn of_layer(
    layerfs: &RootPath,
    room: &mut usize,
    repository: &mut Repository,
) -> Result<Option<PublishedLayer>, CvmfsError> {
    let Some(digest) = in_layer(layerfs).and_then(|(hex, _)| Digest::from_hex(hex)) else { return Ok(None) };
    let mut marks = repository.whiteouts(layerfs).await?;
    let Some(rest) = room.checked_sub(marks.len()) else { return Ok(None) };
    *room = rest;
    let sign = layerfs.join(CATALOG)?;
    if repository.lookup(&sign).await?.is_some() {
        marks.push(sign);
    }
    // Every directory on the way to a mark, whether it holds one or not.
    let mut of_directories: BTreeMap<RootPath, BTreeSet<&[u8]>> = BTreeMap::from([(layerfs.clone(), BTreeSet::new())]);
    for mark in &marks {
        let mut directory = mark.parent();
        if let Some(directory) = &directory {
            of_directories.entry(directory.clone()).or_default().insert(mark.name());
        }
        while let Some(on_the_way) = directory.filter(|on_the_way| on_the_way != layerfs) {
            directory = on_the_way.parent();
            of_directories.entry(on_the_way).or_default();
        }
    }
    let mut directories = Vec::new();
    for (path, marks) in of_directories {
        let (Some(entry), Some((_, path))) = (repository.lookup(&path).await?, in_layer(&path)) else {
            return Ok(None);
        };
        let marks = marks.into_iter().map(<[u8]>::to_vec).collect();
        let Entry { mode, uid, gid, mtime, .. } = entry;
        directories.push(MarkedDirectory { path, mode: mode & 0o7777, uid, gid, mtime, marks });
    }
    Ok(Some(PublishedLayer { digest, directories }))
}
