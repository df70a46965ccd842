//! Lookups in plain directories. Hung mounts are in the tests of the built program.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::metrics::BundleScan;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bundles::bundle::{Bundle, PublishedLayer, WhiteoutDirectory};
use bundles::image::{ChainId, ImageId};
use bundles::path::RootPath;

struct Site {
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
    repositories: Repositories,
}

fn site(names: &[&str]) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&directory.path().join("metadata")).unwrap());
    let metrics = Arc::new(Metrics::new());
    let repositories: Vec<_> = names
        .iter()
        .map(|name| config::Repository { name: (*name).to_owned(), mount: directory.path().join(name) })
        .collect();
    let config = Config {
        repositories,
        lookup_timeout: Duration::from_secs(60),
        check_bundles_after: Duration::ZERO,
        ..Config::default()
    };
    let repositories = Repositories::new(&config, &store, &metrics);
    Site { directory, metrics, repositories }
}

impl Site {
    fn publish(&self, repository: &str, layer: &str) -> PathBuf {
        let layerfs = probe::layerfs(&self.directory.path().join(repository), &Digest::sha256(layer.as_bytes()));
        fs::create_dir_all(&layerfs).unwrap();
        layerfs
    }

    async fn find(&self, layer: &str) -> Result<String, NotFound> {
        self.repositories.find(Digest::sha256(layer.as_bytes()), None).await.map(|found| found.layer.repository)
    }
}

#[tokio::test]
async fn the_first_repository_that_has_the_layer_gives_it() {
    let site = site(&["one", "two"]);
    site.publish("one", "a");
    site.publish("two", "a");
    site.publish("two", "b");
    assert_eq!(site.find("a").await, Ok("one".to_owned()));
    assert_eq!(site.find("b").await, Ok("two".to_owned()));
    assert_eq!(site.find("c").await, Err(NotFound::Absent));
    assert_eq!(site.metrics.failed_lookups.get(LookupFailure::Error), 0);
}

#[tokio::test]
async fn only_a_mounted_repository_can_lack_a_layer() {
    let site = site(&["one", "two"]);
    site.publish("two", "a");
    // Not mounted: an empty directory, or none at all.
    for _ in 0..2 {
        assert_eq!(site.find("a").await, Ok("two".to_owned()));
        assert_eq!(site.find("b").await, Err(NotFound::Unknown));
        fs::create_dir_all(site.directory.path().join("one")).unwrap();
    }
    assert_eq!(site.metrics.failed_lookups.get(LookupFailure::Error), 4);
    site.publish("one", "other");
    assert_eq!(site.find("b").await, Err(NotFound::Absent));
    // There is a file in place of the layer.
    let layerfs = site.publish("one", "b");
    fs::remove_dir(&layerfs).unwrap();
    fs::write(&layerfs, "").unwrap();
    assert_eq!(site.find("b").await, Err(NotFound::Unknown));
}

#[tokio::test]
async fn a_link_on_the_way_to_a_layer_is_refused() {
    let site = site(&["one"]);
    let host = site.directory.path().join("host");
    fs::create_dir_all(host.join("layerfs")).unwrap();
    for links in 1..=3 {
        let layer = links.to_string();
        let layerfs = site.publish("one", &layer);
        // The layer's root, its directory, and the one above.
        let link = layerfs.ancestors().nth(links - 1).unwrap();
        let target = if links == 1 { host.join("layerfs") } else { host.clone() };
        fs::remove_dir_all(link).unwrap();
        std::os::unix::fs::symlink(target, link).unwrap();
        assert_ne!(site.find(&layer).await, Ok("one".to_owned()), "{}", link.display());
    }
}

#[tokio::test]
async fn a_layer_is_listed_once() {
    let site = site(&["one"]);
    let layerfs = site.publish("one", "a");
    fs::write(layerfs.join(".wh.gone"), "").unwrap();
    let digest = Digest::sha256(b"a");
    let first = site.repositories.find(digest, None).await.unwrap().whiteouts;
    assert!(first.delete_anything());
    // A published layer never changes; this one does, to see that it is not listed again.
    fs::remove_file(layerfs.join(".wh.gone")).unwrap();
    assert_eq!(site.repositories.find(digest, None).await.unwrap().whiteouts, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_concurrent_lookups_all_succeed() {
    let site = site(&["one", "two"]);
    let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    names.iter().for_each(|name| drop(site.publish("two", name)));
    fs::create_dir_all(site.directory.path().join("one/.layers")).unwrap();
    let repositories = Arc::new(site.repositories);
    let lookups = names.iter().map(|name| {
        let (repositories, digest) = (Arc::clone(&repositories), Digest::sha256(name.as_bytes()));
        tokio::spawn(async move { repositories.find(digest, None).await })
    });
    for lookup in lookups.collect::<Vec<_>>() {
        assert_eq!(lookup.await.unwrap().unwrap().layer.repository, "two");
    }
    assert_eq!(
        (
            site.metrics.failed_lookups.get(LookupFailure::Skipped),
            site.metrics.failed_lookups.get(LookupFailure::Error)
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn a_layer_in_the_images_bundle_is_not_listed() {
    let site = site(&["one"]);
    let manifest = Digest::sha256(b"manifest");
    let file = site.directory.path().join("one").join(bundles::layout::manifest_path(&manifest));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    // The bundle lists a whiteout that does not exist, to see that the layer is not listed.
    let publish = |layer: &str, mode| {
        let layerfs = site.publish("one", layer);
        fs::write(layerfs.join(".wh.really"), "").unwrap();
        let root = fs::metadata(&layerfs).unwrap();
        let root = WhiteoutDirectory {
            path: RootPath::new("/").unwrap(),
            mode,
            uid: root.uid(),
            gid: root.gid(),
            mtime: (root.mtime(), 999),
            whiteouts: vec![b".wh.listed".to_vec()],
        };
        PublishedLayer { digest: Digest::sha256(layer.as_bytes()), directories: vec![root] }
    };
    let image = ImageId { chain_id: ChainId(manifest), manifest: Some(manifest), reference: "r/image:1".to_owned() };
    let mut deep = publish("deep", 0o755);
    for depth in 1..=crate::whiteouts::MAX_DEPTH + 1 {
        let path = RootPath::new("/d".repeat(depth)).unwrap();
        deep.directories.push(WhiteoutDirectory { path, ..deep.directories[0].clone() });
    }
    let layers = vec![publish("a", 0o755), publish("b", 0o700), deep];
    site.publish("one", "c");
    let bundle = Bundle { layers, ..Bundle::new(image, "one.example.org") };
    bundle.write(&file).unwrap();
    let deleted = async |layer: &str, manifest| {
        let found = site.repositories.find(Digest::sha256(layer.as_bytes()), manifest).await.unwrap();
        let directories = found.whiteouts.directories;
        let deleted = directories.into_iter().flat_map(|directory| directory.deleted);
        deleted.map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(deleted("a", Some(manifest)).await, ["listed"]);
    // It is listed later, and the bundle was wrong.
    let confirmed = async {
        while site.metrics.bundle_scans.get(BundleScan::Wrong) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), confirmed).await.expect("the layer was not compared");
    assert_eq!(deleted("a", Some(manifest)).await, ["really"]);
    site.repositories.repositories[0].distrusts_bundles.store(false, Ordering::Release);
    // The mount shows another mode than the bundle.
    assert_eq!(deleted("b", Some(manifest)).await, ["really"]);
    // Deeper than a companion can be made.
    assert_eq!(deleted("deep", Some(manifest)).await, ["really"]);
    // Not in the bundle.
    assert_eq!(deleted("c", Some(manifest)).await, [""; 0]);
    let counts = || [ScanSource::Bundle, ScanSource::Listing].map(|source| site.metrics.scanned_layers.get(source));
    assert_eq!(counts(), [1, 3]);
    // No bundle, a bundle that cannot be read, and an image without a manifest.
    for (layer, content) in [("d", None), ("e", Some("rubbish"))] {
        publish(layer, 0o755);
        let manifest = Digest::sha256(layer.as_bytes());
        let file = site.directory.path().join("one").join(bundles::layout::manifest_path(&manifest));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        content.iter().for_each(|content| fs::write(&file, content).unwrap());
        assert_eq!(deleted(layer, Some(manifest)).await, ["really"]);
    }
    publish("f", 0o755);
    assert_eq!(deleted("f", None).await, ["really"]);
    assert_eq!(counts(), [1, 6]);
}
