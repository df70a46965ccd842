//! Names of committed layers, and the chain IDs in them.
//!
//! containerd commits a layer as `<namespace>/<number>/<chain ID>`, after it has compared the layer's diff ID with the image's. This program
//! names the snapshot of a published layer in the same way. No namespace of containerd begins with a dot, so no other name does.

use bundles::image::ChainId;

/// First part of the name of a published layer whose chain ID was verified.
const VERIFIED: &str = ".cvmfs";
/// First part of the name of a published layer whose chain ID is only what the image says.
const UNVERIFIED: &str = ".cvmfs-unverified";

/// The name of the snapshot `id` of a published layer.
pub fn published(id: u64, chain_id: &str, is_verified: bool) -> String {
    let first = if is_verified { VERIFIED } else { UNVERIFIED };
    format!("{first}/{id}/{chain_id}")
}

/// The verified chain ID of the committed snapshot `name`.
pub fn verified_chain_id(name: &str) -> Option<ChainId> {
    let (first, _) = name.split_once('/')?;
    if first == UNVERIFIED { None } else { name.rsplit('/').next()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bundles::image::Digest;

    use super::*;

    #[test]
    fn names_have_a_chain_id_if_it_was_verified() {
        let chain = ChainId(Digest::sha256(b"layer"));
        for (name, expected) in [
            (format!("k8s.io/12/{chain}"), Some(chain)),
            (published(12, &chain.to_string(), true), Some(chain)),
            (published(12, &chain.to_string(), false), None),
            (chain.to_string(), None),
            ("k8s.io/12/build-1".to_owned(), None),
        ] {
            assert_eq!(verified_chain_id(&name), expected, "{name}");
        }
    }
}
