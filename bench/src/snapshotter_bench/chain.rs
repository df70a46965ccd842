//! Images of many small layers.

use anyhow::{Result, ensure};
use bundles::image::{ChainId, Digest};
use testbed::images::{self, Image, ImageBuilder};
use testbed::site::{Site, image_cache};

/// A published image.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) reference: String,
    image: Image,
}

impl Chain {
    /// Builds and publishes an image of `layers` layers; only its lowest layer is shared with other images.
    pub(super) async fn publish(site: &mut Site, name: &str, layers: usize) -> Result<Self> {
        let base = images::busybox(&image_cache()?)?;
        let mut image = ImageBuilder::from(&base, name, "1")?;
        for number in base.layers.len()..layers {
            image = image.layer(|tar| tar.file(Self::file(number), 0o644, format!("{number} of {name}\n")));
        }
        let image = image.build(&site.directory.subdirectory("images")?)?;
        ensure!(image.layers.len() == layers, "{name} has {} layers", image.layers.len());
        Ok(Self { reference: site.publish(&image).await?, image })
    }

    /// The path of the only file of a layer above the lowest, without the leading slash.
    pub(super) fn file(layer: usize) -> String {
        format!("srv/{layer}")
    }

    /// Number of layers.
    pub(super) fn len(&self) -> usize {
        self.image.layers.len()
    }

    /// The top layer's chain ID.
    pub(super) fn chain_id(&self) -> ChainId {
        self.image.chain_id()
    }

    /// The digest of the image's manifest.
    pub(super) fn manifest(&self) -> Digest {
        self.image.manifest_digest()
    }

    /// Chain ID and digest of each layer, the lowest first.
    pub(super) fn layers(&self) -> Result<Vec<(String, String)>> {
        let diff_ids = self.image.diff_ids();
        let mut found = Vec::new();
        for (number, layer) in self.image.layers.iter().enumerate() {
            let chain_id = ChainId::from_diff_ids(&diff_ids[..=number]);
            let chain_id = chain_id.ok_or_else(|| anyhow::anyhow!("no layer {number}"))?;
            found.push((chain_id.to_string(), layer.digest.to_string()));
        }
        Ok(found)
    }
}
