//! What `build` and `evaluate` have in common: traces, the image, where to ask about its files, what is worth to be in a bundle.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bundles::builder::{Policy, Repositories, TraceFile, Tree, Uses};
use bundles::bundle::Share;
use bundles::image::ImageId;
use bundles::path::RootPath;
use bundles::registry::Image;

use crate::repository;

#[derive(clap::Args)]
#[group(id = "making", multiple = true)]
pub(crate) struct Args {
    /// The image; by default the one that the traces name
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    #[command(flatten)]
    repository: repository::Args,
    /// The image's merged tree in the repository, as Apptainer runs it, e.g. /.flat/<2>/<hex> or a link to it; without this, the
    /// image's layers
    #[arg(long, value_name = "PATH", value_parser = path)]
    flat: Option<RootPath>,
    /// Leave out what a smaller share of the traces used, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = default_share(), value_parser = share)]
    min_share: f64,
    /// The most bytes that the bundle may make a node transfer; what spares least a byte goes
    #[arg(long, value_name = "BYTES", default_value_t = Policy::default().max_bytes)]
    max_bytes: u64,
}

/// What a bundle is made of, beside the traces.
pub(crate) struct Ready {
    pub(crate) image: Image,
    pub(crate) tree: Tree,
    pub(crate) repositories: Repositories,
    pub(crate) policy: Policy,
}

impl Args {
    /// Asks the registry for the image, which is the traces' unless another was named, and opens the repositories.
    pub(crate) async fn ready(self, traced: &ImageId) -> Result<Ready> {
        let image = self.repository.image(self.image.as_deref().unwrap_or(&traced.reference)).await?;
        let min_share = Share::ratio((self.min_share * WHOLE).round() as u64, WHOLE as u64);
        Ok(Ready {
            image,
            tree: self.flat.map_or(Tree::Layers, Tree::Flat),
            repositories: self.repository.open().await?,
            policy: Policy { min_share, max_bytes: self.max_bytes },
        })
    }
}

/// A share counts these.
const WHOLE: f64 = 10_000.0;

fn default_share() -> f64 {
    f64::from(Policy::default().min_share.parts()) / WHOLE
}

fn path(text: &str) -> Result<RootPath, String> {
    RootPath::new(text).map_err(|error| error.to_string())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

/// Reads traces, of which only what a bundle needs is kept. Tells the image of the first, too.
pub(crate) fn read(traces: &[PathBuf], profiles: &[(String, PathBuf)]) -> Result<(Uses, ImageId)> {
    let traces = traces.iter().map(|path| TraceFile { path: path.clone(), profile: None });
    let named = profiles.iter().map(|(name, path)| TraceFile { path: path.clone(), profile: Some(name.clone()) });
    let uses = Uses::read(&traces.chain(named).collect::<Vec<_>>())?;
    tracing::debug!(traces = uses.len(), "traces read");
    match uses.image().cloned() {
        Some(image) => Ok((uses, image)),
        None => bail!("no trace was given: record one with `cvmfs-prefetch record`"),
    }
}
