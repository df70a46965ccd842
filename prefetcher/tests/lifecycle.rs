//! The daemon's start, end and death.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use api::proto::RequestState;
use nix::sys::signal::Signal;

use site::{Behaviour, Daemon, LONG, Object, Origin, Site, bundle, by_chain, noise, objects, tally, until};

/// A daemon that has begun to fetch a large object which the server holds back; a temporary file is there.
async fn in_mid_transfer(site: &Site, wanted: &[Object]) -> (Origin, Daemon, u64) {
    let origin = Origin::start(wanted).await;
    origin.set(&wanted[0], Behaviour::Hold(wanted[0].stored.clone()));
    let bundle = bundle("image", wanted);
    site.publish(&bundle);
    let daemon = Daemon::start_with(site, &[&origin], "max_connections = 1").await;
    let id = daemon.client.prefetch(by_chain(&bundle)).await.unwrap();
    until("a temporary file", || !site.temporary_files().is_empty()).await;
    (origin, daemon, id)
}

fn large_and_small() -> Vec<Object> {
    let mut wanted = objects(1, 3);
    wanted.insert(0, Object::new(&noise(12 << 20)));
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_next_start_cleans_up_and_completes() {
    let (site, wanted) = (Site::new(), large_and_small());
    let (origin, mut daemon, _) = in_mid_transfer(&site, &wanted).await;
    daemon.signal(Signal::SIGKILL);
    daemon.ended().await;
    assert_eq!(site.temporary_files().len(), 1);
    assert_eq!(site.cache_files().len(), 1, "nothing but the temporary file");
    fs::write(site.path("cache/txn/fetchAbCdEf"), "the client's own").unwrap();
    assert!(site.path("prefetchd.sock").exists());

    // The daemon answers before it has opened its cache.
    let daemon = Daemon::start(&site, &[&origin]).await;
    until("its own leftovers to be removed", || site.temporary_files().len() == 1).await;
    assert_eq!(site.temporary_files(), [site.path("cache/txn/fetchAbCdEf")]);
    origin.open_gate();
    let status = daemon.prefetch_bundle(&bundle("image", &wanted)).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_running_downloads_and_drops_the_rest() {
    let (site, wanted) = (Site::new(), large_and_small());
    let (origin, mut daemon, id) = in_mid_transfer(&site, &wanted).await;
    let client = daemon.client.clone();
    let waiter = tokio::spawn(async move { client.wait(id, LONG).await });
    until("the waiter's call", || daemon.log().contains("client waits")).await;
    daemon.signal(Signal::SIGTERM);
    until("the daemon has noticed", || daemon.log().contains("draining")).await;
    let error = daemon.client.prefetch(by_chain(&bundle("other", []))).await.unwrap_err();
    assert_eq!(error.code(), Some(tonic::Code::Unavailable), "{error}");
    origin.open_gate();
    assert!(daemon.ended().await.success());
    let status = waiter.await.unwrap().unwrap();
    assert_eq!(status.state(), RequestState::Failed, "{status:?}");
    let a = tally(&status);
    assert_eq!((a.fetched_objects, a.failed_shutdown), (1, 3), "{status:?}");
    site.assert_cached(&wanted[..1]);
    assert_eq!(site.cache_files().len(), 1);
    assert!(!site.path("prefetchd.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_a_server_that_holds_back() {
    let (site, wanted) = (Site::new(), large_and_small());
    let (_origin, mut daemon, id) = in_mid_transfer(&site, &wanted).await;
    let client = daemon.client.clone();
    let waiter = tokio::spawn(async move { client.wait(id, LONG).await });
    until("the waiter's call", || daemon.log().contains("client waits")).await;
    daemon.signal(Signal::SIGINT);
    assert!(daemon.ended().await.success());
    let status = waiter.await.unwrap().unwrap();
    assert_eq!((status.state(), tally(&status).failed_shutdown), (RequestState::Failed, 4), "{status:?}");
    assert_eq!(site.cache_files().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_fails_and_the_first_continues() {
    let site = Site::new();
    let wanted = objects(2, 2);
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start_with(&site, &[&origin], "socket_mode = 0o600").await;
    assert_eq!(fs::metadata(site.path("prefetchd.sock")).unwrap().permissions().mode() & 0o777, 0o600);

    let config = site.path("prefetchd.toml");
    let own_socket = site.path("second.toml");
    let text = fs::read_to_string(&config).unwrap();
    let renamed = text.replace("prefetchd.sock", "second.sock").replace("/store\"", "/second-store\"");
    fs::write(&own_socket, renamed).unwrap();
    for (config, expected) in
        [(config, "another daemon is listening"), (own_socket, "being filled by another prefetch daemon")]
    {
        let second = Command::new(env!("CARGO_BIN_EXE_cvmfs-prefetchd")).arg("--config").arg(config).output().unwrap();
        let message = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success() && message.contains(expected), "{message}");
    }
    assert!(!site.path("second.sock").exists());
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
}

/// Two hundred lives of a daemon, each ended at a random moment.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_leave_no_wrong_object() {
    let site = Site::new();
    let mut wanted = objects(40, 60);
    wanted.insert(10, Object::new(&noise(6 << 20)));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    for life in 0..200 {
        let mut daemon = Daemon::start(&site, &[&origin]).await;
        until("leftovers to be removed", || site.temporary_files().is_empty()).await;
        // It may be dead before it answers.
        let asked = daemon.client.prefetch(by_chain(&image));
        let lives = std::time::Duration::from_micros(rand::random_range(0..60_000));
        let _ = tokio::time::timeout(lives, async {
            let _ = asked.await;
            std::future::pending::<()>().await;
        })
        .await;
        daemon.signal(Signal::SIGKILL);
        daemon.ended().await;
        for object in &wanted {
            let Ok(content) = fs::read(site.cached(object)) else { continue };
            assert!(content == object.raw, "a wrong object is visible after life {life}");
            // So that the next life has something to do.
            if rand::random_bool(0.5) {
                fs::remove_file(site.cached(object)).unwrap();
            }
        }
    }
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!((site.cache_files().len(), site.temporary_files().len()), (wanted.len(), 0));
}
