//! Image registries: an image's layers and identity ([`describe`]), and the bundle beside it
//! ([`fetch_bundle`]).

pub mod artifact;
mod body;
pub(crate) mod client;
mod error;
mod fetch;
mod login;
pub(crate) mod referrers;

pub use error::RegistryError;
pub use fetch::{BundleFile, bundle_artifact, fetch_bundle, fetch_bundle_file};

// For fuzz targets.
#[doc(hidden)]
pub use {client::next_page, referrers::listed};

use oci_client::client::current_platform_resolver;
use oci_client::manifest::OciImageIndex;
use serde::Deserialize;

use artifact::{INDEX_TYPE, Manifest};
use client::{Client, Right};

use crate::image::{ChainId, Digest, ImageId, ParseDigestError};

/// Most layers of an image (overlayfs itself stops at 500).
const MAX_LAYERS: usize = 1000;
/// Largest image configuration in bytes.
const MAX_CONFIGURATION: u64 = 2 << 20;
const DOCKER_INDEX_TYPE: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// An image, as its manifest and configuration describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Names of the image.
    pub id: ImageId,
    /// Digests of the stored (compressed) layers, from the lowest to the topmost.
    pub layers: Vec<Digest>,
    /// Sizes of the stored layers in bytes, from the manifest.
    pub layer_sizes: Vec<u64>,
}

/// The part of an image configuration that lists the layers. Source: OCI image specification, `config.md`.
#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Reads the image `reference` from its registry; from an index, the image for this machine's platform.
/// `plain_http` is for registries without TLS.
pub async fn describe(reference: &str, plain_http: bool) -> Result<Image, RegistryError> {
    let client = Client::open(reference, plain_http, Right::Read).await?;
    let digest = resolve(&client).await?;
    described(&client, reference, &digest).await
}

/// The image with this manifest digest. Manifest and configuration are verified against their digests, so the chain ID is the image's.
async fn described(client: &Client, reference: &str, digest: &Digest) -> Result<Image, RegistryError> {
    let raw = client.manifest(&digest.to_string()).await?.ok_or_else(|| absent(client, &digest.to_string()))?;
    let manifest: Manifest =
        serde_json::from_slice(&raw.bytes).map_err(|e| client.malformed(format!("the manifest {digest}: {e}")))?;
    let config = client.blob(&manifest.config, MAX_CONFIGURATION).await?;
    let layers: Vec<_> = manifest.layers.iter().map(|l| (l.digest.as_str(), l.size)).collect();
    image(reference, &digest.to_string(), &layers, &config)
}

/// The digest of the manifest to which `client`'s reference leads on this machine. Only an index is fetched for that, which
/// registries count as a pull.
async fn resolve(client: &Client) -> Result<Digest, RegistryError> {
    let name = client.tag_or_digest();
    let (digest, media_type) = client.manifest_head(&name).await?.ok_or_else(|| absent(client, &name))?;
    if media_type != INDEX_TYPE && media_type != DOCKER_INDEX_TYPE {
        return Ok(digest);
    }
    let raw = client.manifest(&digest.to_string()).await?.ok_or_else(|| absent(client, &name))?;
    let index: OciImageIndex =
        serde_json::from_slice(&raw.bytes).map_err(|e| client.malformed(format!("the index {name}: {e}")))?;
    let chosen = current_platform_resolver(&index.manifests);
    let chosen = chosen.ok_or_else(|| client.malformed(format!("{name} has no image for this platform")))?;
    chosen.parse().map_err(|e: ParseDigestError| client.malformed(e.to_string()))
}

fn absent(client: &Client, name: &str) -> RegistryError {
    client.malformed(format!("the registry has no manifest {name}"))
}

/// The image with this manifest digest, these layers (digest and size) and this configuration.
#[doc(hidden)]
pub fn image(reference: &str, manifest: &str, layers: &[(&str, u64)], config: &[u8]) -> Result<Image, RegistryError> {
    let malformed = |reason: String| RegistryError::Malformed { reference: reference.to_owned(), reason };
    let (names, sizes): (Vec<&str>, Vec<u64>) = layers.iter().copied().unzip();
    let digests =
        |texts: &[&str]| -> Result<Vec<Digest>, ParseDigestError> { texts.iter().map(|t| t.parse()).collect() };
    let config: Configuration =
        serde_json::from_slice(config).map_err(|e| malformed(format!("its configuration: {e}")))?;
    let diff_ids: Vec<&str> = config.rootfs.diff_ids.iter().map(String::as_str).collect();
    if layers.len() != diff_ids.len() || layers.len() > MAX_LAYERS {
        let reason = format!(
            "it has {} layers and {} diff IDs; expected equal numbers of at most {MAX_LAYERS}",
            layers.len(),
            diff_ids.len()
        );
        return Err(malformed(reason));
    }
    let diff_ids = digests(&diff_ids).map_err(|e| malformed(e.to_string()))?;
    let chain_id = ChainId::from_diff_ids(&diff_ids).ok_or_else(|| malformed("it has no layers".to_owned()))?;
    let manifest = manifest.parse().map_err(|e: ParseDigestError| malformed(e.to_string()))?;
    Ok(Image {
        id: ImageId { chain_id, manifest: Some(manifest), reference: reference.to_owned() },
        layers: digests(&names).map_err(|e| malformed(e.to_string()))?,
        layer_sizes: sizes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_layers_and_diff_ids_must_match() {
        let [a, b] = [b"a", b"b"].map(|x| Digest::sha256(x).to_string());
        let config =
            |ids: &str| format!(r#"{{"architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#);
        let two = config(&format!("{a:?},{b:?}"));
        let described = image("r/i:t", &a, &[(&b, 5), (&a, 7)], two.as_bytes()).unwrap();
        assert_eq!(described.layer_sizes, [5, 7]);
        assert_eq!(described.layers, [b.parse().unwrap(), a.parse().unwrap()]);
        assert_eq!(Some(described.id.chain_id), ChainId::from_diff_ids(&[a.parse().unwrap(), b.parse().unwrap()]));
        for (layers, config) in [
            (vec![(a.as_str(), 1)], two.as_str()),
            (vec![], &config("")),
            (vec![("sha512:00", 1)], &config(&format!("{a:?}"))),
            (vec![], "{}"),
        ] {
            assert!(image("r/i:t", &a, &layers, config.as_bytes()).is_err(), "{layers:?} {config}");
        }
    }
}
