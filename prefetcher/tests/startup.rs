//! The daemon accepts requests before it knows how its repositories are served, and starts them as soon as it does.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::path::PathBuf;

use api::proto::RequestState;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use site::{Daemon, Origin, Site, bundle, by_chain, objects, until};

const LONG: &str = "lookup_timeout = \"60s\"";

/// A client whose configuration repository hangs; the file at which it does.
fn hung_client(site: &Site) -> PathBuf {
    fs::create_dir(site.client_config()).unwrap();
    let mounts = site.path("cvmfs");
    let text = format!("CVMFS_CONFIG_REPOSITORY=config.test.example\nCVMFS_MOUNT_DIR={}\n", mounts.display());
    fs::write(site.client_config().join("default.conf"), text).unwrap();
    let shared = mounts.join("config.test.example/etc/cvmfs");
    fs::create_dir_all(&shared).unwrap();
    // Opening a FIFO without a writer blocks as a hung mount does.
    let hung = shared.join("default.conf");
    nix::unistd::mkfifo(&hung, Mode::S_IRWXU).unwrap();
    hung
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_before_the_settings_are_known_starts_when_they_are() {
    let site = Site::new();
    let wanted = objects(70, 5);
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let hung = hung_client(&site);
    let daemon = Daemon::start_with(&site, &[&origin], LONG).await;
    let id = daemon.client.prefetch(by_chain(&image)).await.unwrap();
    let status = daemon.client.status(id).await.unwrap();
    assert!(status.waiting_for_settings && status.state() == RequestState::Running, "{status:?}");
    assert!(daemon.client.list().await.unwrap().requests[0].waiting_for_settings);
    assert_eq!(origin.requests(), 0);
    // The mount works again: an empty file.
    drop(fs::File::options().write(true).open(&hung).unwrap());
    let status = daemon.client.wait(id, site::LONG).await.unwrap();
    assert!(!status.waiting_for_settings && status.state() == RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_settings_can_be_cancelled() {
    let site = Site::new();
    let origin = Origin::start([]).await;
    hung_client(&site);
    let daemon = Daemon::start_with(&site, &[&origin], LONG).await;
    let id = daemon.client.prefetch(by_chain(&bundle("image", &[]))).await.unwrap();
    let status = daemon.client.cancel(id).await.unwrap();
    assert!(!status.waiting_for_settings && status.state() == RequestState::Cancelled, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_stops_in_time_while_it_reads_its_settings() {
    let site = Site::new();
    let origin = Origin::start([]).await;
    hung_client(&site);
    let mut daemon = Daemon::start_with(&site, &[&origin], LONG).await;
    let id = daemon.client.prefetch(by_chain(&bundle("image", &[]))).await.unwrap();
    let client = daemon.client.clone();
    let waiting = tokio::spawn(async move { client.wait(id, site::LONG).await });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().await.success());
    let status = waiting.await.unwrap().unwrap();
    assert!(status.error.contains("shut down") && status.state() == RequestState::Failed, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_end_the_daemon() {
    let site = Site::new();
    let config = site.path("prefetchd.toml");
    let text = format!(
        "socket = {:?}\nstore = {:?}\nclient_config = {:?}\n",
        site.path("prefetchd.sock"),
        site.path("store"),
        site.client_config()
    );
    fs::write(&config, text).unwrap();
    let program = env!("CARGO_BIN_EXE_cvmfs-prefetchd");
    let ended = std::process::Command::new(program).arg("--config").arg(&config).output().unwrap();
    let message = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && message.contains("no repository to serve"), "{message}");
    until("the socket is removed", || !site.path("prefetchd.sock").exists()).await;
}
