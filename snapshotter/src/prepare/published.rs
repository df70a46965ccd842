//! Creating the committed snapshot of a published layer, so that containerd need not unpack the layer.

use std::time::SystemTime;

use super::Request;
use crate::error::Error;
use crate::layers::FoundLayer;
use crate::metrics::LayerOrigin;
use crate::root::Root;
use crate::snapshots::directories::DiskError;
use crate::snapshots::state::{Change, NewSnapshot};
use crate::snapshots::{Content, Kind};
use crate::whiteouts::companion;

/// Beginning of the names of these snapshots. No namespace of containerd begins with a dot, so no other name does.
const NAME_PREFIX: &str = ".cvmfs";

/// Creates the snapshot, unless another call just created it, and returns its name.
pub fn create(root: &Root, request: Request, found: FoundLayer) -> Result<String, Error> {
    let chain_id = request.layer().map(|layer| layer.chain_id.to_owned()).unwrap_or_default();
    let FoundLayer { layer, whiteouts } = found;
    let repository = layer.repository.clone();
    let digest = layer.digest;
    let name = root.with_new_directory(|id| {
        let directories = &root.directories;
        directories.make_published(id, &layer.layerfs, layer.companion_below)?;
        let above = directories.above(id);
        companion::fill_above(&whiteouts, &above).map_err(DiskError::new("fill the companion", above))?;
        if layer.companion_below {
            let below = directories.below(id);
            companion::fill_below(&whiteouts, &below).map_err(DiskError::new("fill the companion", below))?;
        }
        let name = format!("{NAME_PREFIX}/{id}/{chain_id}");
        let parent = request.parent.clone();
        let new = NewSnapshot {
            id,
            kind: Kind::Committed,
            parent: request.parent,
            labels: request.labels,
            content: Content::Cvmfs(layer),
            now: SystemTime::now(),
        };
        root.store.update(|state| match state.find_layer(&chain_id, parent.as_deref()) {
            Some(existing) => Ok::<_, Error>((Change::default(), existing.to_owned())),
            None => Ok((state.create(&name, new)?, name)),
        })
    })?;
    root.metrics.layers.increment(LayerOrigin::Cvmfs);
    tracing::info!(chain_id, repository, %digest, "layer taken from CVMFS");
    Ok(name)
}
