//! The daemon's store follows the repository when it can, and helps out when it cannot.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;

use api::proto::{RequestState, RequestStatus};
use bundles::bundle::Bundle;

use site::{Daemon, Origin, Site, bundle, by_chain, by_manifest, objects, tally};

/// Chain IDs and numbers of objects.
async fn listed(daemon: &Daemon) -> Vec<(String, u64)> {
    let bundles = daemon.client.list().await.unwrap().bundles;
    bundles.into_iter().map(|bundle| (bundle.image.unwrap().chain_id, bundle.objects)).collect()
}

fn from_store(status: &RequestStatus) -> bool {
    status.state() == RequestState::Done && status.bundle_source == "store"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_published_again_replaces_the_stored_one() {
    let site = Site::new();
    let wanted = objects(1, 6);
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let (old, new) = (bundle("image", &wanted[..2]), bundle("image", &wanted));
    site.publish(&old);
    assert!(!from_store(&daemon.prefetch_bundle(&old).await));
    for image in [by_chain(&old), by_manifest(&old)] {
        assert!(from_store(&daemon.prefetch(image).await), "read again without a need");
    }
    site.publish(&new);
    let status = daemon.prefetch_bundle(&new).await;
    assert!(status.bundle_source.ends_with("/image.bundle"), "{status:?}");
    assert_eq!((tally(&status).total_objects, tally(&status).fetched_objects), (6, 4));
    assert!(from_store(&daemon.prefetch(by_manifest(&new)).await));
    assert_eq!(listed(&daemon).await, [(by_chain(&new).chain_id, 6)]);
    // One that cannot be used does not.
    let path = site.publish(&old);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "spoilt").unwrap();
    assert!(from_store(&daemon.prefetch_bundle(&new).await));
    assert!(daemon.log().contains("bundle cannot be used"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_bundle_is_removed_with_the_published_one_only() {
    let site = Site::new();
    let wanted = objects(2, 2);
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let (gone, stays) = (bundle("gone", &wanted), bundle("stays", &wanted));
    let path = site.publish(&gone);
    site.publish(&stays);
    for bundle in [&gone, &stays] {
        assert_eq!(daemon.prefetch_bundle(bundle).await.state(), RequestState::Done);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(daemon.prefetch_bundle(&gone).await.state(), RequestState::NoBundle);
    assert_eq!(listed(&daemon).await, [(by_chain(&stays).chain_id, 2)]);
    // As when nothing is mounted there.
    fs::remove_dir_all(site.mount()).unwrap();
    fs::create_dir(site.mount()).unwrap();
    assert!(from_store(&daemon.prefetch_bundle(&stays).await));
}

/// Maximum number of outstanding calls to a mount: `MAX_CALLS` of `repository::settings`.
const MOUNT_CALLS: usize = 9;

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_mount_delays_no_object_of_a_stored_bundle() {
    let site = Site::new();
    let wanted = objects(3, MOUNT_CALLS as u32 + 2);
    let origin = Origin::start(&wanted).await;
    let mut daemon = Daemon::start_with(&site, &[&origin], "lookup_timeout = \"600s\"\npage_cache_threads = 0").await;
    let image = |(n, object)| bundle(&format!("image {n}"), [object]);
    let bundles: Vec<Bundle> = wanted.iter().enumerate().map(image).collect();
    for (bundle, object) in bundles.iter().zip(&wanted) {
        site.publish(bundle);
        assert_eq!(daemon.prefetch_bundle(bundle).await.state(), RequestState::Done);
        fs::remove_file(site.cached(object)).unwrap();
    }
    // Opening it blocks, as a hung mount does.
    fs::rename(site.mount(), site.path("healthy")).unwrap();
    nix::unistd::mkfifo(&site.mount(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut waiting = Vec::new();
    for (bundle, object) in bundles.iter().zip(&wanted).take(MOUNT_CALLS) {
        waiting.push(daemon.client.prefetch(by_chain(bundle)).await.unwrap());
        site::until("the object is there", || site.cached(object).exists()).await;
    }
    // Now the maximum of calls to the mount is outstanding.
    for bundle in &bundles[MOUNT_CALLS..] {
        let status = daemon.prefetch_bundle(bundle).await;
        assert!(from_store(&status) && tally(&status).fetched_objects == 1, "{status:?}");
    }
    for id in &waiting {
        assert_eq!(daemon.client.status(*id).await.unwrap().state(), RequestState::Running);
    }
    let _writer = fs::File::options().write(true).open(site.mount()).unwrap();
    for id in waiting {
        assert!(from_store(&daemon.client.wait(id, site::LONG).await.unwrap()));
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_stored_bundle_is_replaced_during_its_request() {
    let site = Site::new();
    let wanted = objects(5, 2);
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let (old, new) = (bundle("image", &wanted[..1]), bundle("image", &wanted[1..]));
    site.publish(&old);
    assert_eq!(daemon.prefetch_bundle(&old).await.state(), RequestState::Done);
    // Of the old one nothing comes any more.
    fs::remove_file(site.cached(&wanted[0])).unwrap();
    origin.set(&wanted[0], site::Behaviour::Hold(wanted[0].stored.clone()));
    site.publish(&new);
    let status = daemon.prefetch_bundle(&new).await;
    assert_eq!((status.state(), tally(&status).total_objects), (RequestState::Done, 1), "{status:?}");
    site.assert_cached(&wanted[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_moved_away() {
    let site = Site::new();
    let wanted = objects(6, 2);
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let mut daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.ended().await.success());
    let manifest = fs::read_dir(site.path("store")).unwrap().map(|entry| entry.unwrap().path());
    let manifest = manifest.into_iter().find(|path| path.to_string_lossy().contains("MANIFEST")).unwrap();
    fs::write(manifest, "spoilt").unwrap();
    for expected in [false, true] {
        let mut daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&image).await;
        assert_eq!((status.state(), from_store(&status)), (RequestState::Done, expected), "{status:?}");
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(daemon.ended().await.success());
    }
    assert!(site.path("store.damaged").is_dir() && daemon.log().contains("the bundle store is damaged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_to_its_limit() {
    let site = Site::new();
    let wanted = objects(4, 1);
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start_with(&site, &[&origin], "store_max_bytes = 1048576").await;
    // Hashes do not compress: about 400 kB each.
    let large = |name: &str| {
        let mut large = bundle(name, &wanted);
        large.objects.extend((0..18_000u32).map(|n| {
            let mut object = wanted[0].entry.clone();
            object.hash = bundles::object::ContentHash::sha1_of(format!("{name} {n}").as_bytes());
            object.repository = 1;
            object
        }));
        large.repositories.push("other.test.example".into());
        large
    };
    let bundles = ["a", "b", "c"].map(large);
    for bundle in &bundles {
        site.publish(bundle);
        let status = daemon.prefetch_bundle(bundle).await;
        assert_eq!(status.state(), RequestState::Done, "{}", status.error);
    }
    let mut expected = [&bundles[1], &bundles[2]].map(|bundle| (by_chain(bundle).chain_id, 18_001));
    expected.sort();
    assert_eq!(listed(&daemon).await, expected);
}
