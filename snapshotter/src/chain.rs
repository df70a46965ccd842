//! What a new snapshot is for, and which published layers it stands on.

use bundles::image::ChainId;

use crate::error::Error;
use crate::snapshot::{Content, CvmfsLayer, Snapshot, label};
use crate::state::State;

/// Begins containerd's keys of layers that are being unpacked.
const UNPACK_PREFIX: &str = "extract-";

/// The image of which `key` is going to be a container, if any of its layers comes from CVMFS.
pub fn image_of_container(state: &State, key: &str, parent: Option<&str>) -> Option<ChainId> {
    if is_unpacking(key) {
        return None;
    }
    let name = parent?;
    let parent = state.get(name).ok()?;
    let is_published = |snapshot: &Snapshot| snapshot.layerfs().is_some();
    if !is_published(parent) && !state.ancestors(parent).ok()?.into_iter().any(is_published) {
        return None;
    }
    let label = parent.labels.get(label::SNAPSHOT_REF).and_then(|label| label.parse().ok());
    label.or_else(|| name.rsplit('/').next()?.parse().ok())
}

/// Whether a layer is going to be unpacked into the snapshot `key`.
pub fn is_unpacking(key: &str) -> bool {
    key.rsplit('/').next().unwrap_or_default().starts_with(UNPACK_PREFIX)
}

/// The topmost layer of each repository in a chain that begins with `top`.
pub fn published_below(state: &State, top: Option<&str>) -> Result<Vec<CvmfsLayer>, Error> {
    let mut layers: Vec<CvmfsLayer> = Vec::new();
    let Some(top) = top else { return Ok(layers) };
    let top = state.get(top)?;
    for snapshot in std::iter::once(top).chain(state.ancestors(top)?) {
        if let Content::Cvmfs(layer) = &snapshot.content
            && !layers.iter().any(|other| other.repository == layer.repository)
        {
            layers.push(layer.clone());
        }
    }
    Ok(layers)
}
