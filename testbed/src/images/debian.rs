//! Real packages on a real Debian (or Ubuntu), in layers: a minimal trimmed system; the difference that apt made by installing
//! packages; for some images, the difference made by a further step.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bundles::image::Digest;
use serde::{Deserialize, Serialize};

use super::builder::write_layer;
use super::cache::cached;
use super::diff::write_difference;
use super::rootfs::{Distribution, install};
use super::scan::{scan, write_entries};
use super::{Layer, LayerTar};

/// Version of the recipe; must change whenever the recipe changes.
const RECIPE: &str = "1";

/// A step that changes a root file system after the packages are installed.
pub(super) struct Step<'a> {
    /// Identifies the step; must change whenever its effect changes.
    pub(super) key: &'a str,
    /// Runs the step in the directory of the root file system.
    pub(super) run: &'a dyn Fn(&Path) -> Result<()>,
}

/// A layer in the cache's index.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: String,
    diff_id: String,
    size: u64,
    diff_size: u64,
}

/// The two layers with these packages, cached in `cache` under `name`. The first time takes about a minute and network access.
pub(super) fn layers(cache: &Path, name: &str, packages: &[&str]) -> Result<Vec<Layer>> {
    layers_of(cache, name, packages, None)
}

/// Like [`layers`], with a third layer made by a step.
pub(super) fn layers_with(cache: &Path, name: &str, packages: &[&str], step: &Step<'_>) -> Result<Vec<Layer>> {
    layers_of(cache, name, packages, Some(step))
}

fn layers_of(cache: &Path, name: &str, packages: &[&str], step: Option<&Step<'_>>) -> Result<Vec<Layer>> {
    let distribution = Distribution::of_this_machine()?;
    let more = step.map_or(String::new(), |step| format!(" {}", step.key));
    let recipe = format!("{RECIPE} {} {packages:?}{more}", distribution.suite);
    let key = &Digest::sha256(recipe.as_bytes()).hex()[..12];
    let debs = cache.join(format!("debs-{}", distribution.suite));
    let directory = cached(cache, name, key, |partial| make_layers(&distribution, partial, &debs, packages, step))?;
    read_layers(&directory)
}

/// Creates the layers in `directory/blobs` and writes `directory/layers.json`.
fn make_layers(
    distribution: &Distribution,
    directory: &Path,
    debs: &Path,
    packages: &[&str],
    step: Option<&Step<'_>>,
) -> Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (root, blobs) = (fs::canonicalize(directory)?.join("root"), directory.join("blobs"));
    fs::create_dir_all(debs)?;
    let debs = fs::canonicalize(debs)?;

    tracing::info!(suite = distribution.suite, "creating a root file system with debootstrap (once)");
    distribution.bootstrap(&root, &debs)?;
    let mut before = scan(&root, started)?;
    let mut tar = LayerTar::new();
    write_entries(&before, &root, |_| true, &mut tar)?;
    let mut layers = vec![write_layer(&tar.finish()?, &blobs)?];

    tracing::info!(packages = packages.join(" "), "installing packages into it (once)");
    install(&root, &debs, packages)?;
    let mut next_layer = || {
        let after = scan(&root, started)?;
        let mut tar = LayerTar::new();
        write_difference(&before, &after, &root, &mut tar)?;
        before = after;
        write_layer(&tar.finish()?, &blobs)
    };
    layers.push(next_layer()?);
    if let Some(step) = step {
        tracing::info!("running a further step (once)");
        (step.run)(&root)?;
        layers.push(next_layer()?);
    }

    fs::remove_dir_all(&root)?;
    let records = layers.iter().map(|layer| Record {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.size,
        diff_size: layer.diff_size,
    });
    fs::write(directory.join("layers.json"), serde_json::to_vec_pretty(&records.collect::<Vec<_>>())?)?;
    tracing::info!("layers created");
    Ok(())
}

fn read_layers(directory: &Path) -> Result<Vec<Layer>> {
    let path = directory.join("layers.json");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let records: Vec<Record> = serde_json::from_slice(&bytes).with_context(|| format!("{}", path.display()))?;
    records
        .into_iter()
        .map(|record| {
            let digest: Digest = record.digest.parse()?;
            let blob: PathBuf = directory.join("blobs").join(format!("{}.tar.gz", digest.hex()));
            let diff_id = record.diff_id.parse()?;
            Ok(Layer { blob, digest, diff_id, size: record.size, diff_size: record.diff_size })
        })
        .collect()
}
