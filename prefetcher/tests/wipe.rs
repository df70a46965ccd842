//! `cvmfs_config wipecache`, and other ways in which a cache goes while the daemon writes to it.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;

use api::proto::RequestState;

use site::{Behaviour, Daemon, LONG, Object, Origin, Site, bundle, by_chain, objects, tally, until};

/// A site whose client has its sockets in `sockets`.
fn site_with_sockets() -> Site {
    let site = Site::new();
    fs::create_dir(site.client_config()).unwrap();
    fs::create_dir(site.path("sockets")).unwrap();
    let sockets = format!("CVMFS_RELOAD_SOCKETS={}\n", site.path("sockets").display());
    fs::write(site.client_config().join("default.local"), sockets).unwrap();
    site
}

/// A daemon that has fetched all objects but the last, which the server holds back, and the ID of the request.
async fn all_but_the_last(site: &Site, wanted: &[Object]) -> (Origin, Daemon, u64) {
    let origin = Origin::start(wanted).await;
    let last = wanted.last().unwrap();
    origin.set(last, Behaviour::Hold(last.stored.clone()));
    let image = bundle("image", wanted);
    site.publish(&image);
    let daemon = Daemon::start(site, &[&origin]).await;
    let id = daemon.client.prefetch(by_chain(&image)).await.unwrap();
    let (most, all) = (wanted.split_last().unwrap().1, || origin.requests_for(last) > 0);
    until("all but one", || all() && most.iter().all(|object| site.cached(object).exists())).await;
    (origin, daemon, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_while_the_cache_is_wiped_and_goes_on() {
    let (site, wanted) = (site_with_sockets(), objects(70, 10));
    let (origin, daemon, id) = all_but_the_last(&site, &wanted).await;
    // What `cvmfs_config wipecache` does.
    let marker = site.path("sockets/cvmfs.pause");
    fs::create_dir(&marker).unwrap();
    fs::remove_dir_all(site.path("cache")).unwrap();
    fs::create_dir(site.path("cache")).unwrap();
    origin.open_gate();
    until("the request to wait", || daemon.log().contains("cache wiped: waiting")).await;
    assert_eq!(fs::read_dir(site.path("cache")).unwrap().count(), 0, "the daemon wrote while the cache was wiped");
    fs::remove_dir(&marker).unwrap();
    let status = daemon.client.wait(id, LONG).await.unwrap();
    let a = tally(&status);
    assert_eq!((status.state(), a.fetched_objects), (RequestState::Done, 10), "{status:?}");
    site.assert_cached(&wanted[9..]);
    assert_eq!(daemon.prefetch_bundle(&bundle("image", &wanted)).await.state(), RequestState::Done);
    site.assert_cached(&wanted);
    assert!(site.temporary_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_request_waits_until_the_wipe_has_ended() {
    let (site, wanted) = (site_with_sockets(), objects(71, 5));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    // Older clients make a file.
    let marker = site.path("sockets/cvmfs.pause");
    fs::write(&marker, "").unwrap();
    let daemon = Daemon::start(&site, &[&origin]).await;
    let id = daemon.client.prefetch(by_chain(&image)).await.unwrap();
    until("the request to wait", || daemon.log().contains("cache wiped: waiting")).await;
    assert_eq!((fs::read_dir(site.path("cache")).unwrap().count(), origin.requests()), (0, 0));
    fs::remove_file(&marker).unwrap();
    assert_eq!(daemon.client.wait(id, LONG).await.unwrap().state(), RequestState::Done);
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_in_the_place_of_the_cache_is_used() {
    let (site, wanted) = (Site::new(), objects(72, 8));
    let (origin, daemon, id) = all_but_the_last(&site, &wanted).await;
    let image = bundle("image", &wanted);
    // Kept, so that the new one has another inode.
    let deleted = fs::File::open(site.path("cache")).unwrap();
    fs::remove_dir_all(site.path("cache")).unwrap();
    origin.open_gate();
    assert_eq!(daemon.client.wait(id, LONG).await.unwrap().state(), RequestState::Failed);
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Failed, "{status:?}");
    assert!(status.error.contains("cache") && !site.path("cache").exists(), "{status:?}");
    fs::create_dir(site.path("cache")).unwrap();
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    site.assert_cached(&wanted);
    // The client takes a cache with `ff` for complete.
    let folders =
        fs::read_dir(site.path("cache")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(folders, 258, "not all folders of a cache were made");
    drop(deleted);
}
