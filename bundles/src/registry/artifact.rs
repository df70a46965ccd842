//! A bundle as an OCI artifact: an image manifest whose subject is the bundle's image.
//!
//! Source: OCI image specification 1.1, `manifest.md` ("Guidelines for Artifact Usage") and `descriptor.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::MAX_PAYLOAD;
use crate::image::Digest;

/// Always 2.
pub const BUNDLE_TYPE: &str = "application/vnd.cvmfs-prefetch.bundle.v2";
/// Type of further layers: packs.
pub const PACK_TYPE: &str = "application/vnd.cvmfs-prefetch.pack.v1";
/// Annotation: chain ID of the image.
pub const CHAIN_ID: &str = "io.github.cvmfs-prefetch.chain-id";
/// Annotation: number of traces that the bundle was built from.
pub const TRACES: &str = "io.github.cvmfs-prefetch.traces";

/// The tag of an image's bundle. An image has one: whoever may push to the image's repository decides which, as with the image's own
/// tags, and a request with HEAD shows whether it is still the same.
pub fn bundle_tag(image: &Digest) -> String {
    format!("sha256-{}.cvmfs-prefetch", image.hex())
}

/// Largest bundle file that is read: payload and envelope.
pub const MAX_BUNDLE: u64 = MAX_PAYLOAD as u64 + 4096;
/// Largest manifest or index, as the OCI distribution specification asks registries to accept.
pub const MAX_MANIFEST: u64 = 4 << 20;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Content of the empty configuration.
pub(crate) const EMPTY: &[u8] = b"{}";

/// A reference to content by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content, as text.
    pub digest: String,
    /// Size of the content in bytes.
    pub size: u64,
    /// Artifact type of the manifest that it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes this content.
    pub(crate) fn for_content(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, &Digest::sha256(content), content.len() as u64)
    }

    pub(crate) fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// The parts of an image manifest that we use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST_TYPE`], or Docker's equivalent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Artifact type, unless it is an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Descriptor of the configuration.
    pub config: Descriptor,
    /// Descriptors of the layers.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
