//! The settings are read again while the daemon runs: when the client's configuration changes, when a part of it could not be read,
//! and on request.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::path::PathBuf;

use api::proto::RequestState;
use nix::sys::signal::Signal;

use site::{Behaviour, Daemon, LONG, Object, Origin, REPOSITORY, Site, bundle, by_chain, noise, objects, tally, until};

/// A site whose daemon takes everything from the client's configuration, checked every `interval`.
fn configure(site: &Site, interval: &str) -> PathBuf {
    fs::create_dir_all(site.client_config().join("config.d")).unwrap();
    fs::create_dir(site.path("base")).unwrap();
    std::os::unix::fs::symlink(site.path("cache"), site.path("base/shared")).unwrap();
    let text = format!(
        "socket = {:?}\nstore = {:?}\nclient_config = {:?}\nabsent_ttl = \"0s\"\ndisk_reserve = 0.0\nsettings_check_interval = {interval:?}\n\
         [[repositories]]\nname = {REPOSITORY:?}\nmount = {:?}\n",
        site.path("prefetchd.sock"),
        site.path("store"),
        site.client_config(),
        site.mount(),
    );
    let path = site.path("prefetchd.toml");
    fs::write(&path, text).unwrap();
    path
}

/// The configuration of a client that downloads from `origin` and keeps no quota; with `more` lines.
fn set_client(site: &Site, origin: &Origin, more: &str) {
    let text = format!(
        "CVMFS_SERVER_URL={}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_CACHE_BASE={}\nCVMFS_SHARED_CACHE=yes\nCVMFS_QUOTA_LIMIT=-1\n{more}",
        origin.server(),
        site.path("base").display()
    );
    fs::write(site.client_config().join("default.local"), text).unwrap();
}

async fn loaded(daemon: &Daemon, times: usize) {
    until("the settings to be read", || daemon.log().matches("settings loaded").count() >= times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_client_configuration_is_used_without_a_restart() {
    let (site, wanted) = (Site::new(), objects(1, 4));
    let (before, after) = (Origin::start(&wanted).await, Origin::start(&wanted).await);
    let images = [bundle("first", &wanted[..2]), bundle("second", &wanted[2..])];
    images.iter().for_each(|image| _ = site.publish(image));
    let config = configure(&site, "20ms");
    set_client(&site, &before, "");
    let daemon = Daemon::start_configured(&site, &config).await;
    assert_eq!(daemon.prefetch_bundle(&images[0]).await.state(), RequestState::Done);
    assert_eq!((before.requests(), after.requests()), (2, 0));

    set_client(&site, &after, "");
    until("the change to be noticed", || daemon.log().contains("configuration of the CVMFS client has changed")).await;
    loaded(&daemon, 2).await;
    assert_eq!(daemon.prefetch_bundle(&images[1]).await.state(), RequestState::Done);
    assert_eq!((before.requests(), after.requests()), (2, 2));
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_could_not_be_read_are_read_again() {
    let (site, wanted) = (Site::new(), objects(2, 3));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let config = configure(&site, "20ms");
    // The configuration repository is broken. Its files are not watched, as it is no mount.
    let shared = site.path("cvmfs/config.test.example/etc/cvmfs");
    fs::create_dir_all(&shared).unwrap();
    fs::write(shared.join("default.conf"), "exit 1\n").unwrap();
    let mounts = site.path("cvmfs");
    let default = format!("CVMFS_CONFIG_REPOSITORY=config.test.example\nCVMFS_MOUNT_DIR={}\n", mounts.display());
    fs::write(site.client_config().join("default.conf"), default).unwrap();
    set_client(&site, &origin, "");
    let daemon = Daemon::start_configured(&site, &config).await;
    until("the first attempt", || daemon.log().contains("problems=1")).await;
    // Without servers, the objects would be read through the mount.
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Failed);

    fs::write(shared.join("default.conf"), "").unwrap();
    until("the next attempt", || daemon.log().contains("problems=0")).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!((status.state(), tally(&status).fetched_objects), (RequestState::Done, 3), "{status:?}");
    assert_eq!(daemon.log().matches("exit 1").count(), 1, "the same problem was logged again");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_changes_settings_for_new_requests_only() {
    let site = Site::new();
    let (large, small) = (Object::new(&noise(2 << 20)), objects(3, 1).remove(0));
    let (before, after) = (Origin::start([&large, &small]).await, Origin::start([&large, &small]).await);
    before.set(&large, Behaviour::Hold(large.stored.clone()));
    let images = [bundle("held", [&large]), bundle("new", [&small])];
    images.iter().for_each(|image| _ = site.publish(image));
    let config = configure(&site, "0s");
    set_client(&site, &before, "");
    let daemon = Daemon::start_configured(&site, &config).await;
    let held = daemon.client.prefetch(by_chain(&images[0])).await.unwrap();
    until("the object to be requested", || before.requests_for(&large) == 1).await;

    // Another quota as well: the same directory is used by both requests.
    set_client(&site, &after, "CVMFS_QUOTA_LIMIT=4000\n");
    daemon.signal(Signal::SIGHUP);
    loaded(&daemon, 2).await;
    let status = daemon.prefetch_bundle(&images[1]).await;
    assert_eq!((status.state(), after.requests_for(&small)), (RequestState::Done, 1), "{status:?}");
    before.open_gate();
    let status = daemon.client.wait(held, LONG).await.unwrap();
    assert_eq!((status.state(), after.requests_for(&large)), (RequestState::Done, 0), "{status:?}");
    site.assert_cached([&large, &small]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_cannot_be_served_leaves_the_others() {
    let (mut site, wanted) = (Site::new(), objects(4, 2));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    site.repository = "[[repositories]]\nname = \"bad.test.example\"\ndestination = \"managed\"\n".into();
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    let log = daemon.log();
    assert!(log.contains("repository bad.test.example: its cache is unknown; set cache"), "{log}");
}
