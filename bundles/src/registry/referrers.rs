//! The artifacts that belong to an image.
//!
//! Registries with the referrers API list them. In others, whoever pushes an artifact also maintains an index of them under the
//! tag `sha256-<64 hex of the image's manifest>` ("Referrers Tag Schema").

use serde::Deserialize;

use super::RegistryError;
use super::artifact::Descriptor;
use super::client::Client;
use crate::image::Digest;

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// The tag of the index of an image's artifacts, for registries without the referrers API.
pub(crate) fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// Finds the artifacts of type `kind` that belong to the manifest `subject`.
pub(crate) async fn find(client: &Client, subject: &Digest, kind: &str) -> Result<Vec<Descriptor>, RegistryError> {
    let pages = match client.referrers(subject, kind).await? {
        Some(pages) => pages,
        None => client.manifest(&fallback_tag(subject)).await?.map(|raw| raw.bytes).into_iter().collect(),
    };
    let mut found = Vec::new();
    for page in pages {
        let artifacts = listed(&page, kind);
        found.extend(artifacts.map_err(|e| client.malformed(format!("list of artifacts of {subject}: {e}")))?);
    }
    Ok(found)
}

/// The artifacts of type `kind` in an index.
pub fn listed(index: &[u8], kind: &str) -> serde_json::Result<Vec<Descriptor>> {
    let Index { mut manifests } = serde_json::from_slice(index)?;
    manifests.retain(|manifest| manifest.artifact_type.as_deref() == Some(kind));
    Ok(manifests)
}
