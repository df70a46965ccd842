//! Look-ups in directories. A mount that hangs is in the tests of the whole program.
#![allow(clippy::unwrap_used)]

use super::*;
use std::fs;

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
        self.repositories.find(Digest::of(layer.as_bytes())).await.map(|found| found.repository)
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
    let first = site.repositories.find(digest).await.unwrap().examined;
    assert!(first.whiteouts.delete());
    // A published layer never changes; this one does, to see that nobody looks.
    fs::remove_file(layerfs.join(".wh.gone")).unwrap();
    assert_eq!(site.repositories.find(digest).await.unwrap().examined, first);
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
        tokio::spawn(async move { repositories.find(digest).await })
    });
    for look_up in look_ups.collect::<Vec<_>>() {
        assert_eq!(look_up.await.unwrap().unwrap().repository, "two");
    }
    assert_eq!((site.counters.lookups_skipped.get(), site.counters.lookups_failed.get()), (0, 0));
}
