//! What `build` and `evaluate` have in common: traces, the image, where to ask about its files, what is worth to be in a bundle.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use bundles::builder::{Policy, Repositories, Tree, Uses};
use bundles::bundle::Share;
use bundles::image::ImageId;
use bundles::image::registry::Image;
use bundles::path::RootPath;
use bundles::trace::Trace;

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
        let min_share = Share::of((self.min_share * WHOLE).round() as u64, WHOLE as u64);
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

/// Reads traces, a few at a time: only what a bundle needs of them is kept. Tells the image of the first, too.
pub(crate) fn read(traces: &[PathBuf], profiles: &[(String, PathBuf)]) -> Result<(Uses, ImageId)> {
    let named = profiles.iter().map(|(name, path)| (Some(name), path));
    let all: Vec<_> = traces.iter().map(|path| (None, path)).chain(named).collect();
    let mut batches = all.chunks(std::thread::available_parallelism().map_or(1, usize::from));
    let (mut uses, mut image) = (Uses::default(), None);
    std::thread::scope(|scope| -> Result<()> {
        let mut read_next = || {
            let batch = batches.next()?.iter();
            Some(batch.map(|(_, path)| scope.spawn(|| Trace::read(path))).collect::<Vec<_>>())
        };
        let mut reading = read_next();
        let mut profiles = all.iter().map(|(profile, _)| *profile);
        while let Some(batch) = reading {
            let batch: Vec<_> = batch.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            // The next ones are read while these are added.
            reading = read_next();
            for (read, profile) in batch.into_iter().zip(&mut profiles) {
                let mut trace = read.map_err(|_| anyhow!("a thread that read a trace panicked"))??;
                if let Some(profile) = profile {
                    trace.profile.clone_from(profile);
                }
                image.get_or_insert_with(|| trace.image.clone());
                uses.add(trace);
            }
        }
        Ok(())
    })?;
    tracing::debug!(traces = uses.len(), "traces read");
    match image {
        Some(image) => Ok((uses, image)),
        None => bail!("no trace was given: record one with `cvmfs-prefetch record`"),
    }
}
