//! A published image and bundles of all of its files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::bundle::Bundle;
use bundles::image::ImageId;
use bundles::path::RootPath;
use bundles::trace::{End, FileUse, Phases, Trace};
use testbed::images::{self, ImageBuilder};
use testbed::process::run_command;
use testbed::site::{Site, image_cache};

use super::corpus::Corpus;

/// One of this many files is read before the container's main phase.
const CRITICAL: usize = 4;
/// Microseconds between two reads in the trace.
const STEP_US: u64 = 100;

/// The files to fetch.
#[derive(Debug)]
pub(super) struct Workload {
    /// Paths below the mount, in the order of need.
    pub(super) files: Vec<PathBuf>,
    /// The bundle without packs.
    pub(super) plain: Bundle,
    /// The bundle with packs, as published in the repository.
    pub(super) packed: Bundle,
    /// Number of packs.
    pub(super) packs: usize,
}

impl Workload {
    /// Builds an image of a corpus, publishes it, and builds bundle and packs with the command line.
    pub(super) async fn publish(site: &mut Site, name: &str, corpus: Corpus) -> Result<Self> {
        let (cache, own) = (image_cache()?, site.directory.subdirectory("images")?);
        let base = images::busybox(&cache)?;
        let image =
            ImageBuilder::from(&base, &format!("demo/{name}"), "1")?.layer(|tar| corpus.fill(tar)).build(&own)?;
        let reference = site.publish(&image).await?;
        let layer = image.layers.last().context("an image has layers")?.digest.hex();
        let layerfs = Path::new(".layers").join(&layer[..2]).join(&layer).join("layerfs");
        let files: Vec<PathBuf> = (0..corpus.files).map(|number| layerfs.join(corpus.path(number))).collect();

        let directory = site.directory.subdirectory(name)?;
        let (trace, file) = (directory.join("all.trace"), directory.join("image.bundle"));
        let (chain_id, manifest) = (image.chain_id(), Some(image.manifest_digest()));
        let id = ImageId { chain_id, manifest, reference };
        std::fs::write(&trace, trace_of(id, &corpus)?.to_bytes()?)?;
        run_command(site.builder("build")?.arg("--output").arg(&file).arg(&trace))?;
        let plain = Bundle::read(&file)?;

        let packed = site.publish_packed(&file)?;
        let packs = packed.packs.len();
        Ok(Self { files, plain, packed, packs })
    }

    /// Stored and raw size of all objects.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.plain.bytes()
    }

    /// Number of objects outside packs.
    pub(super) fn large(&self) -> usize {
        self.packed.objects.iter().filter(|object| object.packed.is_none()).count()
    }
}

/// A trace that reads all files sequentially.
fn trace_of(id: ImageId, corpus: &Corpus) -> Result<Trace> {
    let used = |number: usize| {
        let file = FileUse::new(RootPath::new(format!("/{}", corpus.path(number)))?);
        anyhow::Ok(FileUse { at_us: number as u64 * STEP_US, ..file })
    };
    let files = (0..corpus.files).map(used).collect::<Result<_>>()?;
    let main_us = Some((corpus.files / CRITICAL) as u64 * STEP_US);
    let phases = Phases { start_up_us: 0, main_us };
    let duration_us = corpus.files as u64 * STEP_US;
    Ok(Trace { files, phases, end: End::Exited(0), duration_us, ..Trace::new(id) })
}
