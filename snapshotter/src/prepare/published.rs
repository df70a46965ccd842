//! Creating the committed snapshot of a published layer, so that containerd need not unpack the layer.

use std::time::SystemTime;

use super::Request;
use crate::error::Error;
use crate::layers::FoundLayer;
use crate::metrics::LayerOrigin;
use crate::root::Root;
use crate::snapshots::directories::DiskError;
use crate::snapshots::labels::LayerLabels;
use crate::snapshots::state::{Change, Existing, NewSnapshot};
use crate::snapshots::{Content, Kind, names};
use crate::whiteouts::companion;

/// Creates the snapshot, unless another call just created it, and returns its name. Returns none if another call created a snapshot that
/// excludes this one.
pub fn create(
    root: &Root,
    request: Request,
    found: FoundLayer,
    is_verified: bool,
    trust_unverified: bool,
) -> Result<Option<String>, Error> {
    let labels = request.labels.clone();
    let Some(requested) = LayerLabels::read(&labels) else { return Ok(None) };
    let chain_id = requested.chain_id;
    let FoundLayer { layer, whiteouts, .. } = found;
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
        let name = names::published(id, chain_id, is_verified);
        let parent = request.parent.clone();
        let new = NewSnapshot {
            id,
            kind: Kind::Committed,
            parent: request.parent,
            labels: request.labels,
            content: Content::Cvmfs(layer),
            now: SystemTime::now(),
        };
        root.store.update(|state| match state.find_layer(&requested, parent.as_deref(), trust_unverified) {
            Existing::Layer(existing) => Ok::<_, Error>((Change::default(), Some(existing))),
            Existing::Unverified => Ok((Change::default(), None)),
            Existing::None => Ok((state.create(&name, new)?, Some(name))),
        })
    })?;
    if name.is_some() {
        root.metrics.layers.increment(LayerOrigin::Cvmfs);
        tracing::info!(chain_id, repository, %digest, "layer taken from CVMFS");
    }
    Ok(name)
}
