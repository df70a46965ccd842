//! Real packages on a real Debian (or Ubuntu), in layers: a minimal system, trimmed; then the packages, as the difference
//! that apt made; then, where an image needs it, what was done beyond that.

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

/// Changed whenever the recipe of the layers changes.
const RECIPE: &str = "1";

/// What is done to a root file system after the packages are in it.
pub(super) struct Step<'a> {
    /// Changes whenever the step would do something else.
    pub(super) key: &'a str,
    /// Does it, with the root file system as it is on disk.
    pub(super) run: &'a dyn Fn(&Path) -> Result<()>,
}

/// What a layer is known by in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: String,
    diff_id: String,
    size: u64,
    diff_size: u64,
}

/// The two layers with these packages, kept in `cache` by `name`. Making them takes about a minute the first time, and the
/// network.
pub(super) fn layers(cache: &Path, name: &str, packages: &[&str]) -> Result<Vec<Layer>> {
    layers_of(cache, name, packages, None)
}

/// The same with a third layer, which a step makes.
pub(super) fn layers_with(cache: &Path, name: &str, packages: &[&str], step: &Step<'_>) -> Result<Vec<Layer>> {
    layers_of(cache, name, packages, Some(step))
}

fn layers_of(cache: &Path, name: &str, packages: &[&str], step: Option<&Step<'_>>) -> Result<Vec<Layer>> {
    let distribution = Distribution::of_this_machine()?;
    let more = step.map_or(String::new(), |step| format!(" {}", step.key));
    let recipe = format!("{RECIPE} {} {packages:?}{more}", distribution.suite);
    let key = &Digest::of(recipe.as_bytes()).hex()[..12];
    let debs = cache.join(format!("debs-{}", distribution.suite));
    let place = cached(cache, name, key, |partial| make_layers(&distribution, partial, &debs, packages, step))?;
    read_layers(&place)
}

/// Makes the layers in `place/blobs` and writes `place/layers.json`.
fn make_layers(
    distribution: &Distribution,
    place: &Path,
    debs: &Path,
    packages: &[&str],
    step: Option<&Step<'_>>,
) -> Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (root, blobs) = (fs::canonicalize(place)?.join("root"), place.join("blobs"));
    fs::create_dir_all(debs)?;
    let debs = fs::canonicalize(debs)?;

    tracing::info!(suite = distribution.suite, "making a root file system with debootstrap (once)");
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
        tracing::info!("adding what is in no package (once)");
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
    fs::write(place.join("layers.json"), serde_json::to_vec_pretty(&records.collect::<Vec<_>>())?)?;
    tracing::info!("layers made");
    Ok(())
}

fn read_layers(place: &Path) -> Result<Vec<Layer>> {
    let path = place.join("layers.json");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let records: Vec<Record> = serde_json::from_slice(&bytes).with_context(|| format!("{}", path.display()))?;
    records
        .into_iter()
        .map(|record| {
            let digest: Digest = record.digest.parse()?;
            let blob: PathBuf = place.join("blobs").join(format!("{}.tar.gz", digest.hex()));
            let diff_id = record.diff_id.parse()?;
            Ok(Layer { blob, digest, diff_id, size: record.size, diff_size: record.diff_size })
        })
        .collect()
}
