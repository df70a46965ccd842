//! Images and steps that several tests share.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bundles::bundle::Bundle;
use bundles::object::{ContentHash, ObjectKind};
use testbed::images::{self, Image, ImageBuilder};
use testbed::node::Node;
use testbed::site::{FQRN, Site, image_cache};

/// Reads all files of [`files`] and prints one checksum.
pub(crate) const READ_ALL: [&str; 3] = ["/bin/sh", "-c", "cat /data/* | sha1sum"];
/// How many files [`files`] has.
pub(crate) const FILES: usize = 100;
const SIZE: usize = 20_000;

/// busybox and a layer of [`FILES`] files that do not compress.
pub(crate) fn files() -> Result<Image> {
    let cache = image_cache()?;
    let fill = |tar: &mut images::LayerTar| {
        tar.dir("data", 0o755)?;
        (0..FILES).try_for_each(|number| tar.file(format!("data/{number:03}"), 0o644, noise(number as u64)))
    };
    ImageBuilder::from(&images::busybox(&cache)?, "demo/files", "1")?.layer(fill).build(&cache)
}

/// Incompressible bytes from a linear congruential generator (Knuth's MMIX constants).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(SIZE).collect()
}

/// Records `command` on `node`, builds the bundle and publishes it.
pub(crate) fn publish_bundle(site: &mut Site, node: &Node, image: &str, command: &[&str]) -> Result<Bundle> {
    let trace = node.record(image, command)?;
    let file = site.build_bundle(&[&trace])?;
    site.publish_bundle(&file)?;
    Ok(Bundle::read(&file)?)
}

/// Paths below the repository that `client` (a label of the origin) has requested so far, with the number of requests.
pub(crate) fn requested_paths(site: &Site, client: &str) -> BTreeMap<String, usize> {
    let mut paths = BTreeMap::new();
    for request in site.origin.requests().into_iter().filter(|request| request.client == client) {
        let path = request.path.trim_start_matches(&format!("/cvmfs/{FQRN}/")).to_owned();
        *paths.entry(path).or_default() += 1;
    }
    paths
}

/// Checks every object of a node's cache against the server's.
pub(crate) fn check_cache(site: &Site, node: &Node) -> Result<usize> {
    let cached = node.cached()?;
    for (name, content) in &cached {
        let hash: ContentHash = name.replace('/', "").parse()?;
        let kinds =
            [ObjectKind::File, ObjectKind::Chunk, ObjectKind::Catalog, ObjectKind::Certificate, ObjectKind::History];
        let server = kinds.iter().map(|kind| site.repository.object_path(&hash, *kind)).find(|path| path.is_file());
        let stored = std::fs::read(server.with_context(|| format!("the server has no {name}"))?)?;
        let raw = bundles::object::unpack(&hash, &stored, content.len() as u64)?;
        ensure!(raw == *content, "the content of {name} differs from the server's");
    }
    Ok(cached.len())
}

/// Files in the cache's `txn` that are not finished objects.
pub(crate) fn temporary_files(node: &Node) -> Result<usize> {
    let txn: Vec<_> = std::fs::read_dir(Path::new(&node.cache()).join("txn"))?.collect::<Result<_, _>>()?;
    Ok(txn.iter().filter(|entry| entry.file_name().to_string_lossy().starts_with("cvmfs-prefetch")).count())
}
