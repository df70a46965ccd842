//! The daemon's start, end and death.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use api::proto::RequestState;
use bundles::bundle::Bundle;
use nix::sys::signal::Signal;

use site::{
    Behaviour, Daemon, LONG, Object, Origin, Site, SmallDisk, TestManager, bundle, by_chain, noise, objects, tally,
    until,
};

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
async fn sigterm_does_not_wait_for_hung_mounts() {
    let mut site = Site::new();
    let origin = Origin::start([]).await;
    // Opening them blocks, as a hung mount does.
    let other = site.path("other");
    fs::remove_dir(site.mount()).unwrap();
    for mount in [&site.mount(), &other] {
        nix::unistd::mkfifo(mount, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    site.repository = format!(
        "[[repositories]]\nname = \"other.test.example\"\nmount = {other:?}\nservers = [\"http://localhost:1\"]\n\
         destination = \"mount\""
    );
    let mut daemon = Daemon::start_with(&site, &[&origin], "lookup_timeout = \"600s\"").await;
    let mut waiting = Vec::new();
    for name in ["first", "second"] {
        let id = daemon.client.prefetch(by_chain(&bundle(name, []))).await.unwrap();
        let client = daemon.client.clone();
        waiting.push(tokio::spawn(async move { client.wait(id, LONG).await }));
    }
    until("the lookups", || daemon.log().matches("no bundle found source=\"store\"").count() == 2).await;
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().await.success());
    for status in waiting {
        let status = status.await.unwrap().unwrap();
        assert_eq!(status.state(), RequestState::Failed, "{status:?}");
    }
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

/// Asks a daemon for an image and kills it at a random moment, perhaps before it answers.
async fn killed_at_a_random_moment(mut daemon: Daemon, image: &Bundle) {
    let asked = daemon.client.prefetch(by_chain(image));
    let lives = std::time::Duration::from_micros(rand::random_range(0..60_000));
    let _ = tokio::time::timeout(lives, async {
        let _ = asked.await;
        std::future::pending::<()>().await;
    })
    .await;
    daemon.signal(Signal::SIGKILL);
    daemon.ended().await;
}

/// No object in the cache has a wrong byte.
fn assert_right(site: &Site, wanted: &[Object], life: usize) {
    for object in wanted {
        let Ok(content) = fs::read(site.cached(object)) else { continue };
        assert!(content == object.raw, "a wrong object is visible after life {life}");
    }
}

/// Removes about half of the objects, so that the next life has something to do.
fn evict(site: &Site, wanted: &[Object]) {
    let cached = wanted.iter().map(|object| site.cached(object)).filter(|path| path.exists());
    cached.filter(|_| rand::random_bool(0.5)).for_each(|path| fs::remove_file(path).unwrap());
}

/// Two hundred lives of a daemon, each ended at a random moment.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_leave_no_wrong_object() {
    let site = Site::new();
    let manager = TestManager::start(&site.path("cache"), 0);
    let mut wanted = objects(40, 60);
    wanted.insert(10, Object::new(&noise(6 << 20)));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    for life in 0..200 {
        let daemon = Daemon::start(&site, &[&origin]).await;
        until("leftovers to be removed", || site.temporary_files().is_empty()).await;
        killed_at_a_random_moment(daemon, &image).await;
        assert_right(&site, &wanted, life);
        evict(&site, &wanted);
    }
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!(site.temporary_files().len(), 0);
    // The revision of the FIFO is there, too.
    assert_eq!(site.cache_files().len(), wanted.len() + 1);
    let is_registered =
        |object: &Object| manager.registered().iter().any(|one| one.digest == object.entry.hash.digest && one.visible);
    until("every object to be registered", || wanted.iter().all(is_registered)).await;
}

/// The same on a file system that others fill up again and again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn as_root_kills_on_a_full_disk_leave_no_wrong_object() {
    let (mut site, mut wanted) = (Site::new(), objects(41, 60));
    // Nobody evicts: the disk is the only limit.
    site.repository = "quota_mb = 0\n".into();
    wanted.insert(10, Object::new(&noise(6 << 20)));
    let origin = Origin::start(&wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let _disk = SmallDisk::at(site.path("cache"), "size=12m,nr_inodes=400");
    let filler = site.path("cache/filler");
    for life in 0..200 {
        let daemon = Daemon::start_with(&site, &[&origin], "cache_share = 1.0").await;
        until("leftovers to be removed", || site.temporary_files().is_empty()).await;
        let filling = {
            let filler = filler.clone();
            // Fails when the disk is full.
            std::thread::spawn(move || drop(fs::write(filler, vec![0; rand::random_range(0..12 << 20)])))
        };
        killed_at_a_random_moment(daemon, &image).await;
        filling.join().unwrap();
        assert_right(&site, &wanted, life);
        evict(&site, &wanted);
        fs::remove_file(&filler).unwrap();
    }
    let daemon = Daemon::start_with(&site, &[&origin], "cache_share = 1.0").await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!((site.cache_files().len(), site.temporary_files().len()), (wanted.len(), 0));
}
