//! A bundle as an OCI artifact: an image manifest whose subject is the image it is for.
//!
//! Source: OCI image specification 1.1, `manifest.md` ("Guidelines for Artifact Usage") and `descriptor.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::MAX_PAYLOAD;
use crate::image::Digest;

/// The type of the artifact, and of its first layer: a bundle file of format 2.
pub const BUNDLE_TYPE: &str = "application/vnd.cvmfs-prefetch.bundle.v2";
/// The type of further layers: packs.
pub const PACK_TYPE: &str = "application/vnd.cvmfs-prefetch.pack.v1";
/// Annotation: the chain ID of the image's topmost layer.
pub const CHAIN_ID: &str = "io.github.cvmfs-prefetch.chain-id";
/// Annotation: how many traces the bundle was made of.
pub const TRACES: &str = "io.github.cvmfs-prefetch.traces";

/// The most bytes of a bundle file: its payload and its envelope.
pub const MAX_BUNDLE: u64 = MAX_PAYLOAD as u64 + 4096;
/// The most bytes of a manifest or index; what the OCI distribution specification asks registries to take.
pub const MAX_MANIFEST: u64 = 4 << 20;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The content of the empty configuration.
pub(crate) const EMPTY: &[u8] = b"{}";

/// What names some content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// What kind of artifact the manifest it names is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Of content that is at hand.
    pub(crate) fn of(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, &Digest::of(content), content.len() as u64)
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

/// An image manifest, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST_TYPE`], or Docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, if it is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The contents.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
