//! Fetching the bundle beside an image, as [`crate::publish::push`] put it there.

use std::cmp::Reverse;

use super::artifact::{BUNDLE_TYPE, Descriptor, MAX_BUNDLE, MAX_MANIFEST, Manifest, TRACES};
use super::client::{Client, Right};
use super::{RegistryError, referrers, resolve};
use crate::bundle::Bundle;
use crate::image::Digest;

/// Fetches the bundle beside the image `reference`; `None` if there is none. Of several bundles (if the registry does not let
/// anybody delete old ones) it takes the one built from the most traces.
///
/// The registry decides only which bundle it offers: lengths are limited, digests are verified, and the bundle must be for the
/// requested image.
pub async fn fetch_bundle(reference: &str, plain_http: bool) -> Result<Option<Bundle>, RegistryError> {
    let client = Client::open(reference, plain_http, Right::Read).await?;
    let (_, image) = resolve(&client).await?;
    let mut artifacts = referrers::find(&client, &image, BUNDLE_TYPE).await?;
    artifacts.sort_by_key(|artifact| (Reverse(traces(artifact)), artifact.digest.clone()));
    match artifacts.first() {
        Some(artifact) => Ok(Some(fetch(&client, artifact, &image).await?)),
        None => Ok(None),
    }
}

fn traces(artifact: &Descriptor) -> u32 {
    artifact.annotations.get(TRACES).and_then(|traces| traces.parse().ok()).unwrap_or(0)
}

async fn fetch(client: &Client, artifact: &Descriptor, image: &Digest) -> Result<Bundle, RegistryError> {
    let malformed = |reason: String| client.malformed(format!("the bundle {} {reason}", artifact.digest));
    if artifact.size > MAX_MANIFEST {
        return Err(malformed(format!(
            "has a manifest of {} bytes; at most {MAX_MANIFEST} are allowed",
            artifact.size
        )));
    }
    // Only by digest: a tag would be followed without verification.
    let digest: Digest = artifact.digest.parse().map_err(|e| malformed(format!("has an invalid digest: {e}")))?;
    let raw = client.manifest(&digest.to_string()).await?;
    let raw = raw.ok_or_else(|| malformed("is listed, but does not exist".to_owned()))?;
    let manifest: Manifest = serde_json::from_slice(&raw.bytes).map_err(|e| malformed(format!("is malformed: {e}")))?;
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.as_str()).unwrap_or("nothing");
    if subject != image.to_string() {
        return Err(malformed(format!("belongs to {subject}, not to the image {image}")));
    }
    let layer = manifest.layers.iter().find(|layer| layer.media_type == BUNDLE_TYPE);
    let layer = layer.ok_or_else(|| malformed(format!("has no layer of type {BUNDLE_TYPE}")))?;
    let bytes = client.blob(layer, MAX_BUNDLE).await?;
    let bundle = Bundle::from_bytes(&bytes).map_err(|e| malformed(format!("cannot be used: {e}")))?;
    match bundle.image.manifest {
        Some(manifest) if manifest == *image => Ok(bundle),
        other => Err(malformed(format!("is for the manifest {other:?}, not for {image}"))),
    }
}
