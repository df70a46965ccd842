//! Images of many small layers.

use anyhow::{Result, ensure};
use bundles::image::ChainId;

use crate::images::{self, Image, ImageBuilder};
use crate::site::{Site, image_cache};

/// A published image.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) reference: String,
    image: Image,
}

impl Chain {
    /// Makes an image of so many layers, and publishes all of them.
    pub(super) async fn publish(site: &mut Site, layers: usize) -> Result<Self> {
        let base = images::busybox(&image_cache()?)?;
        let name = format!("demo/{layers}-layers");
        let mut image = ImageBuilder::from(&base, &name, "1")?;
        for number in base.layers.len()..layers {
            // Of another image it is another layer: each chain is pulled on its own.
            image = image.layer(|tar| tar.file(format!("srv/{number}"), 0o644, format!("{number} of {layers}\n")));
        }
        let image = image.build(&site.directory.subdirectory("images")?)?;
        ensure!(image.layers.len() == layers, "{name} has {} layers", image.layers.len());
        Ok(Self { reference: site.publish(&image).await?, image })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.image.layers.len()
    }

    /// The topmost layer's chain ID.
    pub(super) fn top(&self) -> String {
        self.image.chain_id().to_string()
    }

    /// Chain ID and digest of each layer, the lowest first.
    pub(super) fn layers(&self) -> Result<Vec<(String, String)>> {
        let diff_ids = self.image.diff_ids();
        let mut found = Vec::new();
        for (number, layer) in self.image.layers.iter().enumerate() {
            let chain_id = ChainId::of(&diff_ids[..=number]);
            let chain_id = chain_id.ok_or_else(|| anyhow::anyhow!("no layer {number}"))?;
            found.push((chain_id.to_string(), layer.digest.to_string()));
        }
        Ok(found)
    }
}
