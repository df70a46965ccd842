//! What a registry says about an image: its layers and its identity.

use std::time::Duration;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use super::{BadDigest, ChainId, Digest, ImageId};

/// The most layers an image may have (overlayfs itself stops at 500).
const MAX_LAYERS: usize = 1000;

/// An image as its manifest and configuration describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its names.
    pub id: ImageId,
    /// Digests of the layers as they are stored (compressed), from the lowest to the topmost.
    pub layers: Vec<Digest>,
    /// Their sizes in bytes, as the manifest tells them.
    pub layer_sizes: Vec<u64>,
}

/// Why an image's description cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not an image reference.
    #[error("{reference:?} is not an image reference: {why}")]
    Reference {
        /// The text.
        reference: String,
        /// What is wrong.
        why: String,
    },
    /// The registry did not give it.
    #[error("cannot read {reference} from its registry: {source}")]
    Registry {
        /// The image.
        reference: String,
        /// Why.
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// It was given, but makes no sense.
    #[error("{reference}: {why}")]
    Malformed {
        /// The image.
        reference: String,
        /// What is wrong.
        why: String,
    },
}

/// The part of an image configuration that says what the layers are.
/// Source: OCI image specification, `config.md`.
#[derive(Deserialize)]
struct Configuration {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Asks the registry of `reference` for the image. `plain_http` is for registries without TLS. Of an index, the image
/// for this machine's platform is taken.
pub async fn describe(reference: &str, plain_http: bool) -> Result<Image, RegistryError> {
    let parsed: Reference = reference.parse().map_err(|e: oci_client::ParseError| RegistryError::Reference {
        reference: reference.to_owned(),
        why: e.to_string(),
    })?;
    let client = Client::new(ClientConfig {
        protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        connect_timeout: Some(Duration::from_secs(10)),
        read_timeout: Some(Duration::from_secs(30)),
        ..Default::default()
    });
    let answer = client.pull_manifest_and_config(&parsed, &RegistryAuth::Anonymous).await;
    let (manifest, digest, config) =
        answer.map_err(|e| RegistryError::Registry { reference: reference.to_owned(), source: Box::new(e) })?;
    let layers: Vec<_> = manifest.layers.iter().map(|l| (l.digest.as_str(), l.size.max(0) as u64)).collect();
    image(reference, &digest, &layers, config.as_bytes())
}

fn image(reference: &str, manifest: &str, layers: &[(&str, u64)], config: &[u8]) -> Result<Image, RegistryError> {
    let malformed = |why: String| RegistryError::Malformed { reference: reference.to_owned(), why };
    let (names, sizes): (Vec<&str>, Vec<u64>) = layers.iter().copied().unzip();
    let digests = |texts: &[&str]| -> Result<Vec<Digest>, BadDigest> { texts.iter().map(|t| t.parse()).collect() };
    let config: Configuration =
        serde_json::from_slice(config).map_err(|e| malformed(format!("its configuration: {e}")))?;
    let diff_ids: Vec<&str> = config.rootfs.diff_ids.iter().map(String::as_str).collect();
    if layers.len() != diff_ids.len() || layers.len() > MAX_LAYERS {
        let why = format!(
            "it has {} layers and {} diff IDs; expected as many, at most {MAX_LAYERS}",
            layers.len(),
            diff_ids.len()
        );
        return Err(malformed(why));
    }
    let diff_ids = digests(&diff_ids).map_err(|e| malformed(e.to_string()))?;
    let chain_id = ChainId::of(&diff_ids).ok_or_else(|| malformed("it has no layers".to_owned()))?;
    let manifest = manifest.parse().map_err(|e: BadDigest| malformed(e.to_string()))?;
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
    fn an_image_needs_as_many_layers_as_diff_ids() {
        let [a, b] = [b"a", b"b"].map(|x| Digest::of(x).to_string());
        let config =
            |ids: &str| format!(r#"{{"architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#);
        let two = config(&format!("{a:?},{b:?}"));
        let described = image("r/i:t", &a, &[(&b, 5), (&a, 7)], two.as_bytes()).unwrap();
        assert_eq!(described.layer_sizes, [5, 7]);
        assert_eq!(described.layers, [b.parse().unwrap(), a.parse().unwrap()]);
        assert_eq!(Some(described.id.chain_id), ChainId::of(&[a.parse().unwrap(), b.parse().unwrap()]));
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
