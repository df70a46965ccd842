//! containerd's labels: the ones that this snapshotter reads, and the size limit for all of them.

use std::collections::BTreeMap;

use bundles::image::Digest;

/// Labels of one snapshot.
pub type Labels = BTreeMap<String, String>;

/// Chain ID of the snapshot that a layer will become. containerd sets it on the Prepare of a layer; a Prepare without it
/// cannot be answered with a published layer.
pub const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// Digest of the compressed layer.
pub const LAYER_DIGEST: &str = "containerd.io/snapshot/cri.layer-digest";
/// Digest of the image's manifest.
pub const MANIFEST_DIGEST: &str = "containerd.io/snapshot/cri.manifest-digest";
/// The reference being pulled.
pub const IMAGE_REF: &str = "containerd.io/snapshot/cri.image-ref";
/// User mapping of a container in a user namespace.
pub const UID_MAPPING: &str = "containerd.io/snapshot/uidmapping";
/// Group mapping of a container in a user namespace.
pub const GID_MAPPING: &str = "containerd.io/snapshot/gidmapping";

/// Maximum size of a key and its value together, in bytes. containerd's limit.
pub const SIZE_LIMIT: usize = 4096;
/// Characters of a key that an error shows.
const SHOWN: usize = 64;

/// The labels of a Prepare for a layer of an image that is being pulled.
#[derive(Debug, Clone, Copy)]
pub struct LayerLabels<'a> {
    /// Chain ID of the layer.
    pub chain_id: &'a str,
    /// Digest of the compressed layer. Missing if containerd is not configured to pass the annotations of images.
    pub digest: Option<&'a str>,
    /// Digest of the image's manifest.
    pub manifest: Option<Digest>,
    /// The reference being pulled; empty if unknown.
    pub reference: &'a str,
}

impl<'a> LayerLabels<'a> {
    /// Reads the labels; `None` if the Prepare is not for a layer.
    pub fn read(labels: &'a Labels) -> Option<Self> {
        let get = |label| labels.get(label).map(String::as_str);
        Some(Self {
            chain_id: get(SNAPSHOT_REF)?,
            digest: get(LAYER_DIGEST),
            manifest: get(MANIFEST_DIGEST).and_then(|digest| digest.parse().ok()),
            reference: get(IMAGE_REF).unwrap_or_default(),
        })
    }
}

/// A label that containerd itself would refuse.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {key:?} is too large: key and value have {size} bytes, the limit is {SIZE_LIMIT}")]
pub struct LabelTooLarge {
    /// The beginning of the key.
    pub key: String,
    /// Bytes of key and value.
    pub size: usize,
}

/// Checks the size of each label.
pub fn check(labels: &Labels) -> Result<(), LabelTooLarge> {
    for (key, value) in labels {
        let size = key.len() + value.len();
        if size > SIZE_LIMIT {
            return Err(LabelTooLarge { key: key.chars().take(SHOWN).collect(), size });
        }
    }
    Ok(())
}

/// Removes labels without a value, as containerd's own store does: setting a label to "" deletes it.
pub fn without_empty(mut labels: Labels) -> Labels {
    labels.retain(|_, value| !value.is_empty());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_share_the_limit() {
        for (key, value, accepted) in
            [(1, 4095, true), (4096, 0, true), (1, 4096, false), (4097, 0, false), (2048, 2049, false), (0, 0, true)]
        {
            // Two bytes a character: the limit is in bytes, and cutting must not split a character.
            let key = "ü".repeat(key / 2) + &"k".repeat(key % 2);
            let checked = check(&[(key, "v".repeat(value))].into());
            assert_eq!(checked.is_ok(), accepted, "{value}");
            if let Err(error) = checked {
                assert!(error.to_string().len() < 300, "{error}");
            }
        }
    }
}
