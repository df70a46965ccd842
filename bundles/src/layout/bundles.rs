//! Paths of bundles and packs, relative to the repository's root.

use crate::image::{ChainId, Digest};

/// Directory of bundles and packs.
pub const BUNDLES: &str = ".bundles";

/// Name of a bundle's file.
pub(crate) const BUNDLE_FILE: &str = "image.bundle";

/// Path of the bundle of a chain ID.
pub fn bundle_path(chain_id: &ChainId) -> String {
    format!("{BUNDLES}/{}/{BUNDLE_FILE}", fan_out(&chain_id.0))
}

/// Path of the bundle of a manifest digest.
pub fn manifest_path(manifest: &Digest) -> String {
    format!("{}/{BUNDLE_FILE}", manifest_link(manifest))
}

/// Path of a pack.
pub fn pack_path(pack: &Digest) -> String {
    format!("{BUNDLES}/packs/{}.pack", fan_out(pack))
}

/// The symbolic link by which a bundle is found by its manifest digest.
#[cfg(feature = "remote")]
pub(crate) struct ManifestLink {
    pub(crate) path: String,
    pub(crate) target: String,
}

#[cfg(feature = "remote")]
impl ManifestLink {
    pub(crate) fn new(manifest: &Digest, chain_id: &ChainId) -> Self {
        Self { path: manifest_link(manifest), target: format!("../../{}", fan_out(&chain_id.0)) }
    }
}

fn manifest_link(manifest: &Digest) -> String {
    format!("{BUNDLES}/manifests/{}", fan_out(manifest))
}

fn fan_out(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}/{hex}", &hex[..2])
}
