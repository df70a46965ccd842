//! Look-ups in directories. A mount that hangs is in the tests of the whole program.
#![allow(clippy::unwrap_used)]

use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;

use bundles::bundle::{Bundle, MarkedDirectory, PublishedLayer};
use bundles::image::{ChainId, ImageId};
use bundles::path::RootPath;

struct Site {
    directory: tempfile::TempDir,
    counters: Arc<Counters>,
    repositories: Repositories,
}

fn site(names: &[&str]) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&directory.path().join("metadata")).unwrap());
    let counters = Arc::new(Counters::default());
    let repositories: Vec<_> = names
        .iter()
        .map(|name| config::Repository { name: (*name).to_owned(), mount: directory.path().join(name) })
        .collect();
    let repositories = Repositories::new(&repositories, Duration::from_secs(60), store, Arc::clone(&counters));
    Site { directory, counters, repositories }
}

impl Site {
    fn publish(&self, repository: &str, layer: &str) -> PathBuf {
        let layerfs = layerfs(&self.directory.path().join(repository), &Digest::of(layer.as_bytes()));
        fs::create_dir_all(&layerfs).unwrap();
        layerfs
    }

    async fn find(&self, layer: &str) -> Result<String, NotFound> {
        self.repositories.find(Digest::of(layer.as_bytes()), None).await.map(|found| found.repository)
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
    assert_eq!(site.counters.lookups_failed.get(), 0);
}

#[tokio::test]
async fn only_does_not_exist_means_absent() {
    let site = site(&["one", "two"]);
    site.publish("two", "a");
    // Not mounted: an empty directory, or none at all.
    for _ in 0..2 {
        assert_eq!(site.find("a").await, Ok("two".to_owned()));
        assert_eq!(site.find("b").await, Err(NotFound::Unknown));
        fs::create_dir_all(site.directory.path().join("one")).unwrap();
    }
    assert_eq!(site.counters.lookups_failed.get(), 4);
    site.publish("one", "other");
    assert_eq!(site.find("b").await, Err(NotFound::Absent));
    // Something is there, but it is no layer.
    let layerfs = site.publish("one", "b");
    fs::remove_dir(&layerfs).unwrap();
    fs::write(&layerfs, "").unwrap();
    assert_eq!(site.find("b").await, Err(NotFound::Unknown));
}

#[tokio::test]
async fn a_layer_is_looked_through_once() {
    let site = site(&["one"]);
    let layerfs = site.publish("one", "a");
    fs::write(layerfs.join(".wh.gone"), "").unwrap();
    let digest = Digest::of(b"a");
    let first = site.repositories.find(digest, None).await.unwrap().examined;
    assert!(first.whiteouts.delete());
    // A published layer never changes; this one does, to see that nobody looks.
    fs::remove_file(layerfs.join(".wh.gone")).unwrap();
    assert_eq!(site.repositories.find(digest, None).await.unwrap().examined, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_are_looked_for_at_once_all_are_found() {
    let site = site(&["one", "two"]);
    let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    names.iter().for_each(|name| drop(site.publish("two", name)));
    fs::create_dir_all(site.directory.path().join("one/.layers")).unwrap();
    let repositories = Arc::new(site.repositories);
    let look_ups = names.iter().map(|name| {
        let (repositories, digest) = (Arc::clone(&repositories), Digest::of(name.as_bytes()));
        tokio::spawn(async move { repositories.find(digest, None).await })
    });
    for look_up in look_ups.collect::<Vec<_>>() {
        assert_eq!(look_up.await.unwrap().unwrap().repository, "two");
    }
    assert_eq!((site.counters.lookups_skipped.get(), site.counters.lookups_failed.get()), (0, 0));
}

#[tokio::test]
async fn what_the_images_bundle_tells_of_a_layer_spares_looking_through_it() {
    let site = site(&["one"]);
    let manifest = Digest::of(b"manifest");
    let file = site.directory.path().join("one").join(bundles::publish::manifest_path(&manifest));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    // The bundle tells of something that is not there, to see that nobody looks.
    let told = |layer: &str, mode| {
        let layerfs = site.publish("one", layer);
        fs::write(layerfs.join(".wh.really"), "").unwrap();
        let root = fs::metadata(&layerfs).unwrap();
        let (path, marks) = (RootPath::new("/").unwrap(), vec![b".wh.told".to_vec()]);
        let mtime = (root.mtime(), 999);
        let root = MarkedDirectory { path, mode, uid: root.uid(), gid: root.gid(), mtime, marks };
        PublishedLayer { digest: Digest::of(layer.as_bytes()), directories: vec![root] }
    };
    let image = ImageId { chain_id: ChainId(manifest), manifest: Some(manifest), reference: "r/image:1".to_owned() };
    let mut deep = told("deep", 0o755);
    for depth in 1..=crate::usage::DEPTH_LIMIT + 1 {
        let path = RootPath::new("/d".repeat(depth)).unwrap();
        deep.directories.push(MarkedDirectory { path, ..deep.directories[0].clone() });
    }
    let layers = vec![told("a", 0o755), told("b", 0o700), deep];
    site.publish("one", "c");
    let bundle = Bundle { layers, ..Bundle::of(image, "one.example.org") };
    bundle.write(&file).unwrap();
    let deleted = async |layer: &str, manifest| {
        let found = site.repositories.find(Digest::of(layer.as_bytes()), manifest).await.unwrap();
        let directories = found.examined.whiteouts.directories;
        let deleted = directories.into_iter().flat_map(|directory| directory.deleted);
        deleted.map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(deleted("a", Some(manifest)).await, ["told"]);
    // The mount shows another mode than the bundle tells.
    assert_eq!(deleted("b", Some(manifest)).await, ["really"]);
    // Deeper than a companion can be made.
    assert_eq!(deleted("deep", Some(manifest)).await, ["really"]);
    // It does not tell of this one.
    assert_eq!(deleted("c", Some(manifest)).await, [""; 0]);
    let counts = || (site.counters.layers_told.get(), site.counters.layers_walked.get());
    assert_eq!(counts(), (1, 3));
    // No bundle, none that can be read, and an image of which nothing is known.
    for (layer, content) in [("d", None), ("e", Some("rubbish"))] {
        told(layer, 0o755);
        let manifest = Digest::of(layer.as_bytes());
        let file = site.directory.path().join("one").join(bundles::publish::manifest_path(&manifest));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        content.iter().for_each(|content| fs::write(&file, content).unwrap());
        assert_eq!(deleted(layer, Some(manifest)).await, ["really"]);
    }
    told("f", 0o755);
    assert_eq!(deleted("f", None).await, ["really"]);
    assert_eq!(counts(), (1, 6));
}
