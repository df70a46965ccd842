//! Fetching the bundle beside an image, as [`crate::publish::push`] put it there.
//!
//! The bundle is found by a tag that names the image: [`bundle_tag`]. A list of artifacts, such as that of the referrers API, can have
//! several bundles for one image, and everything by which one could choose among them is written by those who push. A tag has one
//! manifest, and only those who may push to the image's repository can move it. The worst that they can do is to have nodes fetch
//! useless objects: every object is verified on its own.

use super::artifact::{BUNDLE_TYPE, MAX_BUNDLE, Manifest, bundle_tag};
use super::client::{Client, Right};
use super::{RegistryError, described, resolve};
use crate::bundle::Bundle;
use crate::image::{Digest, ImageId};

/// The file of a bundle from a registry, not decoded, and what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// The bytes of the file. They have the digest that the artifact names.
    pub file: Vec<u8>,
    /// Digest of the artifact's manifest.
    pub artifact: Digest,
    /// The image. Its chain ID comes from the image's own configuration.
    pub image: ImageId,
}

/// Fetches the bundle beside the image `reference`; `None` if there is none.
///
/// The registry decides only which bundle it offers: lengths are limited, digests are verified, and the bundle must be for the
/// requested image.
pub async fn fetch_bundle(reference: &str, plain_http: bool) -> Result<Option<Bundle>, RegistryError> {
    let Some(found) = fetch_bundle_file(reference, plain_http, MAX_BUNDLE).await? else { return Ok(None) };
    let malformed = |reason: String| RegistryError::Malformed { reference: reference.to_owned(), reason };
    let bundle = Bundle::from_bytes(&found.file)
        .map_err(|error| malformed(format!("the bundle {} cannot be used: {error}", found.artifact)))?;
    found.check(&bundle).map_err(malformed)?;
    Ok(Some(bundle))
}

/// Fetches the file of the bundle beside the image `reference`, of at most `max` bytes; `None` if there is none. Call
/// [`BundleFile::check`] for the bundle that it holds.
///
/// Without a bundle, this is a HEAD request for the image and one for the bundle, which registries do not count as pulls, and a
/// GET request for an index if the reference names one.
pub async fn fetch_bundle_file(
    reference: &str,
    plain_http: bool,
    max: u64,
) -> Result<Option<BundleFile>, RegistryError> {
    let client = Client::open(reference, plain_http, Right::Read).await?;
    let image = resolve(&client).await?;
    let Some((artifact, _)) = client.manifest_head(&bundle_tag(&image)).await? else { return Ok(None) };
    let malformed = |reason: String| client.malformed(format!("the bundle {artifact} {reason}"));
    let raw = client.manifest(&artifact.to_string()).await?;
    let raw = raw.ok_or_else(|| malformed("has a tag, but does not exist".to_owned()))?;
    let manifest: Manifest = serde_json::from_slice(&raw.bytes).map_err(|e| malformed(format!("is malformed: {e}")))?;
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.as_str()).unwrap_or("nothing");
    if subject != image.to_string() {
        return Err(malformed(format!("belongs to {subject}, not to the image {image}")));
    }
    let layer = manifest.layers.iter().find(|layer| layer.media_type == BUNDLE_TYPE);
    let layer = layer.ok_or_else(|| malformed(format!("has no layer of type {BUNDLE_TYPE}")))?;
    let image = described(&client, reference, &image).await?.id;
    let file = client.blob(layer, max).await?;
    Ok(Some(BundleFile { file, artifact, image }))
}

/// The digest of the artifact that is the bundle of the image with the manifest digest `image` now; `None` if there is none. One
/// HEAD request, which registries do not count as a pull. `repository` is any reference to the image's repository.
pub async fn bundle_artifact(
    repository: &str,
    image: &Digest,
    plain_http: bool,
) -> Result<Option<Digest>, RegistryError> {
    let client = Client::open(repository, plain_http, Right::Read).await?;
    Ok(client.manifest_head(&bundle_tag(image)).await?.map(|(digest, _)| digest))
}

impl BundleFile {
    /// Refuses the decoded bundle, with the reason, unless it is for the image beside which it is.
    pub fn check(&self, bundle: &Bundle) -> Result<(), String> {
        let Self { artifact, image, .. } = self;
        let (chain, manifest) = (bundle.image.chain_id, bundle.image.manifest);
        if manifest != image.manifest {
            let (theirs, ours) = (manifest.map(|m| m.to_string()), image.manifest.map(|m| m.to_string()));
            return Err(format!("the bundle {artifact} is for the manifest {theirs:?}, not for {ours:?}"));
        }
        if chain != image.chain_id {
            return Err(format!(
                "the bundle {artifact} is for the image with chain ID {chain}; that of this image is {}; build it again",
                image.chain_id
            ));
        }
        Ok(())
    }
}
