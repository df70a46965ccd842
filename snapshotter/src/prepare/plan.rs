//! Everything about the snapshots that the answer to a Prepare or View depends on.

use bundles::image::ChainId;

use super::Request;
use crate::snapshots::labels::SNAPSHOT_REF;
use crate::snapshots::names::verified_chain_id;
use crate::snapshots::state::{Existing, State, StateError};
use crate::snapshots::{CvmfsLayer, Kind, Snapshot};

/// Read in one step, so all fields belong to one moment.
#[derive(Debug)]
pub struct PreparePlan {
    /// Whether there is a committed snapshot with the chain ID of the requested layer.
    pub existing: Existing,
    /// The image to prefetch: the snapshot is for a container of an image with a published layer.
    pub image: Option<ChainId>,
    /// The topmost published layer of each repository that the new snapshot will be mounted on. Empty for a layer that is
    /// unpacked: that does not read the layers below.
    pub published_layers: Vec<CvmfsLayer>,
    /// The parent.
    pub parent: Option<Snapshot>,
}

impl PreparePlan {
    /// Checks that the snapshot can be created, and reads what it is for. `trust_unverified` is as in [`State::find_layer`].
    pub fn read(state: &State, request: &Request, trust_unverified: bool) -> Result<Self, StateError> {
        let parent = request.parent.as_deref();
        state.check_new(&request.key, parent)?;
        let chain = state.chain(parent)?;
        let layer = request.layer();
        let is_unpacking = request.is_unpacking();
        // A container in a user namespace is based on a local copy of all files.
        let is_container = request.kind == Kind::Active && !is_unpacking && request.mapped_root.is_none();
        Ok(Self {
            existing: layer.map_or(Existing::None, |layer| state.find_layer(&layer, parent, trust_unverified)),
            image: if is_container { image_of(parent, &chain) } else { None },
            published_layers: if is_unpacking { Vec::new() } else { published_layers(&chain) },
            parent: chain.first().map(|parent| (*parent).clone()),
        })
    }
}

/// The image that has the chain of snapshots below `parent`, if any of its layers is published.
fn image_of(parent: Option<&str>, chain: &[&Snapshot]) -> Option<ChainId> {
    let top = chain.first()?;
    if !chain.iter().any(|snapshot| snapshot.cvmfs().is_some()) {
        return None;
    }
    let from_label = || top.labels.get(SNAPSHOT_REF)?.parse().ok();
    verified_chain_id(parent?).or_else(from_label)
}

/// The topmost published layer of each repository in a chain of snapshots.
pub fn published_layers(chain: &[&Snapshot]) -> Vec<CvmfsLayer> {
    let mut layers: Vec<CvmfsLayer> = Vec::new();
    for layer in chain.iter().filter_map(|snapshot| snapshot.cvmfs()) {
        if !layers.iter().any(|other| other.repository == layer.repository) {
            layers.push(layer.clone());
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use bundles::image::Digest;

    use super::*;
    use crate::snapshots::Content;
    use crate::snapshots::labels::{GID_MAPPING, LAYER_DIGEST, Labels, UID_MAPPING};
    use crate::snapshots::state::NewSnapshot;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn chain_id(layer: &str) -> String {
        Digest::sha256(layer.as_bytes()).to_string()
    }

    /// A layer of `repository`, or a local one.
    fn add(state: &mut State, name: &str, parent: Option<&str>, repository: Option<&str>) {
        let content = repository.map_or(Content::Local, |repository| {
            Content::Cvmfs(CvmfsLayer {
                repository: repository.to_owned(),
                digest: Digest::sha256(name.as_bytes()),
                layerfs: name.into(),
                owner: (0, 0),
                companion_above: false,
                companion_below: false,
            })
        });
        let new = NewSnapshot {
            id: 0,
            kind: Kind::Committed,
            parent: parent.map(str::to_owned),
            labels: labels(&[(SNAPSHOT_REF, &chain_id(name))]),
            content,
            now: SystemTime::UNIX_EPOCH,
        };
        let change = state.create(name, new).unwrap();
        state.apply(change);
    }

    /// An image of three layers, the lower two published, and one of a single local layer.
    fn state() -> State {
        let mut state = State::default();
        add(&mut state, "bottom", None, Some("a.org"));
        add(&mut state, "middle", Some("bottom"), Some("a.org"));
        add(&mut state, "top", Some("middle"), None);
        add(&mut state, "local", None, None);
        state
    }

    fn plan(kind: Kind, key: &str, parent: &str, pairs: &[(&str, &str)]) -> PreparePlan {
        let request = Request::new(kind, key.to_owned(), parent.to_owned(), labels(pairs)).unwrap();
        PreparePlan::read(&state(), &request, false).unwrap()
    }

    #[test]
    fn a_container_of_a_published_image_is_prefetched_and_its_mounts_are_checked() {
        let plan = plan(Kind::Active, "k8s.io/1/container", "top", &[]);
        assert_eq!(plan.image.unwrap().to_string(), chain_id("top"));
        let layers: Vec<_> = plan.published_layers.iter().map(|layer| layer.layerfs.to_str().unwrap()).collect();
        assert_eq!(layers, ["middle"], "the topmost of the repository");
        assert_eq!(plan.parent.unwrap().labels[SNAPSHOT_REF], chain_id("top"));
        assert_eq!(plan.existing, Existing::None);
    }

    #[test]
    fn only_containers_on_published_layers_are_prefetched() {
        let mapping = [(UID_MAPPING, "0:1000:1"), (GID_MAPPING, "0:1000:1")];
        for (kind, key, parent, pairs, mounts) in [
            (Kind::View, "view", "top", &[][..], 1),
            (Kind::Active, "in-user-namespace", "top", &mapping[..], 1),
            (Kind::Active, "k8s.io/1/extract-1 sha256:x", "top", &[], 0),
            (Kind::Active, "container", "local", &[], 0),
            (Kind::Active, "scratch", "", &[], 0),
        ] {
            let plan = plan(kind, key, parent, pairs);
            assert_eq!(plan.image, None, "{key}");
            assert_eq!(plan.published_layers.len(), mounts, "{key}");
        }
    }

    #[test]
    fn a_layer_that_exists_is_found() {
        let (id, digest) = (chain_id("middle"), Digest::sha256(b"middle").to_string());
        let labels = [(SNAPSHOT_REF, id.as_str()), (LAYER_DIGEST, &digest)];
        let existing = |kind, parent| plan(kind, "extract-1", parent, &labels).existing;
        // The name of this snapshot does not say that its chain ID was verified.
        assert_eq!(existing(Kind::Active, "bottom"), Existing::Unverified);
        assert_eq!(existing(Kind::Active, "local"), Existing::None, "on another parent");
        assert_eq!(existing(Kind::View, "bottom"), Existing::None, "a view is no layer");
    }
}
