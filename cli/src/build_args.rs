//! What `bundle build` and `bundle evaluate` share: the traces, the image, its repositories, and which objects to select.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bundles::builder::{Policy, Repositories, TraceFile, Tree, Uses};
use bundles::bundle::Share;
use bundles::image::ImageId;
use bundles::path::RootPath;
use bundles::registry::Image;

use crate::repository_args::RepositoryArgs;

#[derive(clap::Args)]
#[group(id = "build_args", multiple = true)]
#[command(next_help_heading = "Selection")]
pub(crate) struct BuildArgs {
    /// Reference of the image [default: the image that the traces name]
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    /// Merged tree of the image in the repository, as Apptainer runs it, e.g. /registry.example.org/physics/root:6.32
    ///
    /// A path from the repository's root: below /.flat, or a link there. Without this option, the bundle has the
    /// objects of the image's layers.
    #[arg(long, value_name = "PATH", value_parser = path)]
    flat: Option<RootPath>,
    /// Exclude objects that a smaller share of the traces uses, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = default_share(), value_parser = share)]
    min_share: f64,
    /// Transfer budget of the bundle in bytes; objects with the least benefit per byte are dropped first
    #[arg(long, value_name = "BYTES", default_value_t = Policy::default().max_bytes)]
    max_bytes: u64,
    #[command(flatten)]
    repository: RepositoryArgs,
}

/// What the builder needs beside the traces.
pub(crate) struct BuildInput {
    pub(crate) image: Image,
    pub(crate) tree: Tree,
    pub(crate) repositories: Repositories,
    pub(crate) policy: Policy,
}

impl BuildArgs {
    /// Looks up the image, by default `traced`, in its registry, and opens the repositories.
    pub(crate) async fn open(self, traced: &ImageId) -> Result<BuildInput> {
        let image = self.repository.image(self.image.as_deref().unwrap_or(&traced.reference)).await?;
        let min_share = Share::ratio((self.min_share * SHARE_PARTS).round() as u64, SHARE_PARTS as u64);
        Ok(BuildInput {
            image,
            tree: self.flat.map_or(Tree::Layers, Tree::Flat),
            repositories: self.repository.open().await?,
            policy: Policy { min_share, max_bytes: self.max_bytes },
        })
    }
}

/// A `Share` counts in ten-thousandths.
const SHARE_PARTS: f64 = 10_000.0;

fn default_share() -> f64 {
    f64::from(Policy::default().min_share.parts()) / SHARE_PARTS
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

/// Reads the uses of files from traces, and the image of the first trace.
pub(crate) fn read_traces(traces: &[PathBuf], profiles: &[(String, PathBuf)]) -> Result<(Uses, ImageId)> {
    let traces = traces.iter().map(|path| TraceFile { path: path.clone(), profile: None });
    let named = profiles.iter().map(|(name, path)| TraceFile { path: path.clone(), profile: Some(name.clone()) });
    let uses = Uses::read(&traces.chain(named).collect::<Vec<_>>())?;
    tracing::debug!(traces = uses.len(), "traces read");
    match uses.image().cloned() {
        Some(image) => Ok((uses, image)),
        None => bail!("no trace given: record one with `cvmfs-prefetch record`"),
    }
}
