//! A real Python with real packages on a real Debian, in three layers.
//!
//! 1. a minimal Debian (or Ubuntu), trimmed;
//! 2. Python 3, its standard library and some packages, as the difference that apt made;
//! 3. an application that opens several hundred files when it starts, and that replaces, deletes and hides files of the
//!    layers below. It fails if it sees any of what was deleted.

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
use super::{Image, ImageBuilder, Layer, LayerTar};

/// Changed whenever the recipe of the two lower layers changes.
const RECIPE: &str = "1";

const PACKAGES: &[&str] = &[
    "python3",
    "python3-dateutil",
    "python3-jinja2",
    "python3-numpy",
    "python3-pygments",
    "python3-requests",
    "python3-yaml",
];

/// What a layer is known by in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: String,
    diff_id: String,
    size: u64,
    diff_size: u64,
}

/// The image `demo/python:1`. Making it takes about a minute the first time, and the network.
pub fn python(cache: &Path) -> Result<Image> {
    let distribution = Distribution::of_this_machine()?;
    let recipe = format!("{RECIPE} {} {PACKAGES:?}", distribution.suite);
    let key = &Digest::of(recipe.as_bytes()).hex()[..12];
    let debs = cache.join(format!("debs-{}", distribution.suite));
    let place = cached(cache, "python", key, |partial| make_lower_layers(&distribution, partial, &debs))?;
    let mut image = ImageBuilder::new("demo/python", "1");
    for layer in read_layers(&place)? {
        image = image.made_layer(layer);
    }
    image
        .layer(application)
        .entrypoint(["python3", "/opt/app/main.py"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LC_ALL", "C.UTF-8")
        .build(cache)
}

fn application(tar: &mut LayerTar) -> Result<()> {
    for directory in ["etc", "etc/skel", "opt", "opt/app"] {
        tar.dir(directory, 0o755)?;
    }
    tar.file("opt/app/main.py", 0o644, include_str!("app/main.py"))?;
    tar.file("etc/issue", 0o644, "demo/python\n")?;
    tar.whiteout("etc/issue.net")?;
    tar.opaque("etc/skel")?;
    tar.file("etc/skel/README", 0o644, "Only this file is left.\n")
}

/// Makes layers 1 and 2 in `place/blobs` and writes `place/layers.json`.
fn make_lower_layers(distribution: &Distribution, place: &Path, debs: &Path) -> Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (root, blobs) = (fs::canonicalize(place)?.join("root"), place.join("blobs"));
    fs::create_dir_all(debs)?;
    let debs = fs::canonicalize(debs)?;

    tracing::info!(suite = distribution.suite, "making a root file system with debootstrap (once)");
    distribution.bootstrap(&root, &debs)?;
    let base = scan(&root, started)?;
    let mut tar = LayerTar::new();
    write_entries(&base, &root, |_| true, &mut tar)?;
    let base_layer = write_layer(&tar.finish()?, &blobs)?;

    tracing::info!(packages = PACKAGES.join(" "), "installing Python into it (once)");
    install(&root, &debs, PACKAGES)?;
    let mut tar = LayerTar::new();
    write_difference(&base, &scan(&root, started)?, &root, &mut tar)?;
    let python_layer = write_layer(&tar.finish()?, &blobs)?;

    fs::remove_dir_all(&root)?;
    let records = [base_layer, python_layer].map(|layer| Record {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.size,
        diff_size: layer.diff_size,
    });
    fs::write(place.join("layers.json"), serde_json::to_vec_pretty(&records)?)?;
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
