//! Whether a published layer is the one that containerd asks for.
//!
//! For a layer that a snapshotter provides, containerd skips its own check of the diff ID. An image whose configuration has another
//! image's diff IDs would otherwise take the other image's chain ID on this node.

use bundles::image::{ChainId, Digest};

use crate::snapshots::names::verified_chain_id;

/// The result of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The layer has the chain ID.
    Verified,
    /// The repository does not state the layer's diff ID, or the layers below have no verified chain ID.
    Unknown,
    /// The layer has another chain ID: the image is wrong, or an attack.
    Other,
}

/// Compares the requested chain ID with that of the layer with this diff ID on the snapshot named `parent`.
pub fn verify(requested: &str, parent: Option<&str>, diff_id: Option<Digest>) -> Verdict {
    let Some(diff_id) = diff_id else { return Verdict::Unknown };
    let below = parent.map(verified_chain_id);
    if below == Some(None) {
        return Verdict::Unknown;
    }
    let found = ChainId::of_layer(below.flatten(), diff_id).to_string();
    if requested == found { Verdict::Verified } else { Verdict::Other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::names::published;

    #[test]
    fn a_layer_is_verified_by_its_diff_id_and_the_layers_below() {
        let [base, top] = [b"base", b"top "].map(|text| Digest::sha256(text));
        let lower = ChainId(base);
        let chain = ChainId::of_layer(Some(lower), top).to_string();
        let on = |parent: &str, diff_id| verify(&chain, Some(parent), diff_id);
        let parent = format!("k8s.io/1/{lower}");
        assert_eq!(on(&parent, Some(top)), Verdict::Verified);
        assert_eq!(on(&published(2, &lower.to_string(), true), Some(top)), Verdict::Verified);
        assert_eq!(verify(&lower.to_string(), None, Some(base)), Verdict::Verified);
        // The layer itself, or one below it, is another one.
        assert_eq!(on(&parent, Some(base)), Verdict::Other);
        assert_eq!(on(&format!("k8s.io/1/{}", ChainId(top)), Some(top)), Verdict::Other);
        assert_eq!(verify(&chain, None, Some(top)), Verdict::Other);
        assert_eq!(verify("", None, Some(base)), Verdict::Other);
        // Nobody says what it is.
        assert_eq!(on(&parent, None), Verdict::Unknown);
        assert_eq!(on(&published(2, &lower.to_string(), false), Some(top)), Verdict::Unknown);
        assert_eq!(on("k8s.io/1/build", Some(top)), Verdict::Unknown);
    }
}
