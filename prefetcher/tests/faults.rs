//! Whatever goes wrong, no wrong byte gets into the cache, the rest arrives, and the tally says what happened.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;

use api::proto::{RequestState, RequestStatus};
use bundles::bundle::Bundle;

use site::{Behaviour, Daemon, Lease, Object, Origin, Site, SmallDisk, bundle, by_chain, noise, objects, tally};

/// What a request ends like if its bundle is `wanted` and the server does `behaviour` for the first object.
async fn with_first(wanted: &[Object], behaviour: Behaviour) -> (Site, Origin, RequestStatus) {
    let site = Site::new();
    let origin = Origin::start(wanted).await;
    origin.set(&wanted[0], behaviour);
    let bundle = bundle("image", wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!(status.state(), RequestState::Failed, "{status:?}");
    let a = tally(&status);
    assert_eq!((a.failed_objects, a.fetched_objects), (1, wanted.len() as u64 - 1), "{status:?}");
    assert!(!site.cached(&wanted[0]).exists());
    site.assert_cached(&wanted[1..]);
    assert_eq!(site.temporary_files(), [""; 0].map(std::path::PathBuf::from));
    (site, origin, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_object_never_enters_the_cache() {
    let mut wanted = objects(1, 4);
    // One way for small objects, another for large ones.
    for first in [wanted[0].clone(), Object::new(&noise(7 << 20))] {
        wanted[0] = first;
        let mut corrupt = wanted[0].stored.clone();
        let middle = corrupt.len() / 2;
        corrupt[middle] ^= 0x10;
        let (_, origin, status) = with_first(&wanted, Behaviour::Send(corrupt)).await;
        assert_eq!(tally(&status).failed_verification, 1);
        assert!(status.error.contains(&wanted[0].entry.hash.to_string()), "{}", status.error);
        assert_eq!(origin.requests_for(&wanted[0]), 1, "the same bytes would come again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_is_refused_before_it_is_read() {
    let wanted = objects(2, 2);
    let (_, _, status) = with_first(&wanted, Behaviour::Send(b"<html>please log in</html>".to_vec())).await;
    assert_eq!(tally(&status).failed_verification, 1);
    assert!(status.error.contains("announces 26 bytes"), "{}", status.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_body_is_fetched_again_then_counted() {
    let mut wanted = objects(3, 2);
    for first in [wanted[0].clone(), Object::new(&noise(7 << 20))] {
        wanted[0] = first;
        let stored = wanted[0].stored.clone();
        let half = stored.len() / 2;
        let (_, origin, status) = with_first(&wanted, Behaviour::Cut(stored, half)).await;
        assert_eq!(tally(&status).failed_transfer, 1);
        assert_eq!(origin.requests_for(&wanted[0]), 2, "retries = 1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_and_only_transient_ones_retried() {
    let wanted = objects(4, 3);
    for (code, requests) in [(404, 1), (403, 1), (302, 1), (500, 2), (503, 2)] {
        let (_, origin, status) = with_first(&wanted, Behaviour::Status(code, "sorry")).await;
        assert_eq!(tally(&status).failed_transfer, 1);
        assert!(status.error.contains(&code.to_string()), "{}", status.error);
        assert_eq!(origin.requests_for(&wanted[0]), requests, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_server_is_followed_by_the_next() {
    let site = Site::new();
    let wanted = objects(5, 30);
    let (dead, bad, good) = (Origin::dead().await, Origin::start(&wanted).await, Origin::start(&wanted).await);
    bad.set(&wanted[0], Behaviour::Send(vec![0; wanted[0].stored.len()]));
    bad.set(&wanted[1], Behaviour::Status(404, ""));
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&dead, &bad, &good]).await;
    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    assert_eq!((tally(&status).fetched_objects, status.error.as_str()), (30, ""));
    site.assert_cached(&wanted);
    assert_eq!(good.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_bundle_fails_only_its_own_request() {
    let site = Site::new();
    let wanted = objects(6, 3);
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let name = |what: &str| bundle(what, &wanted);
    let spoil = |bundle: &Bundle, change: &dyn Fn(&mut Vec<u8>)| {
        let path = site.publish(bundle);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    };
    spoil(&name("cut"), &|bytes| bytes.truncate(bytes.len() / 2));
    spoil(&name("newer"), &|bytes| bytes[4] = 99);
    spoil(&name("flipped"), &|bytes| bytes[40] ^= 1);
    spoil(&name("other image"), &|bytes| *bytes = name("something else").to_bytes().unwrap());
    site.publish(&Bundle { repositories: vec!["other.test.example".into()], ..name("other repository") });
    let cases = [
        ("cut", "truncated"),
        ("newer", "upgrade cvmfs-prefetch"),
        ("flipped", "checksum"),
        ("other image", "publish it again"),
        ("other repository", "add it to [[repositories]]"),
    ];
    for (what, expected) in cases {
        let status = daemon.prefetch_bundle(&name(what)).await;
        assert_eq!(status.state(), RequestState::Failed, "{what}: {status:?}");
        assert!(status.error.contains(expected), "{what}: {}", status.error);
        assert!(daemon.log().contains(expected), "{what} is not in the log");
    }
    assert_eq!((origin.requests(), site.cache_files().len()), (0, 0));
    site.publish(&name("good"));
    assert_eq!(daemon.prefetch_bundle(&name("good")).await.state(), RequestState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_bundle_is_found_once_it_has_one() {
    let site = Site::new();
    let wanted = objects(7, 2);
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("image", &wanted);
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!((status.state(), status.error.as_str()), (RequestState::NoBundle, ""));
    site.publish(&bundle);
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bundle_is_remembered_for_the_configured_time() {
    let site = Site::new();
    let wanted = objects(10, 2);
    let origin = Origin::start(&wanted).await;
    let (late, early) = (bundle("late", &wanted), bundle("early", &wanted));
    site.publish(&early);
    let daemon = Daemon::start_with(&site, &[&origin], "absent_ttl = \"3600s\"").await;
    assert_eq!(daemon.prefetch_bundle(&late).await.state(), RequestState::NoBundle);
    site.publish(&late);
    assert_eq!(daemon.prefetch_bundle(&late).await.state(), RequestState::NoBundle);
    assert_eq!(daemon.prefetch_bundle(&early).await.state(), RequestState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_mount_stops_neither_other_requests_nor_the_end() {
    let site = Site::new();
    let wanted = objects(8, 2);
    let origin = Origin::start(&wanted).await;
    let good = bundle("good", &wanted);
    site.publish(&good);
    let mut daemon = Daemon::start_with(&site, &[&origin], "lookup_timeout = \"1s\"").await;
    assert_eq!(daemon.prefetch_bundle(&good).await.state(), RequestState::Done);
    // More of them than are read at a time.
    let hung: Vec<_> = (0..3).map(|i| bundle(&format!("hung {i}"), &wanted)).collect();
    let _leases: Vec<Lease> = hung.iter().map(|bundle| Lease::on(&site.publish(bundle))).collect();
    let asked = futures::future::join_all(hung.iter().map(|b| daemon.prefetch_bundle(b)));
    let (statuses, beside) = futures::join!(asked, daemon.prefetch_bundle(&good));
    assert_eq!(beside.state(), RequestState::Done, "{beside:?}");
    for status in statuses {
        assert_eq!(status.state(), RequestState::NoBundle, "{status:?}");
        let is_late = status.error.contains("did not respond") || status.error.contains("is being read");
        assert!(is_late, "{}", status.error);
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cache_fails_requests_without_a_transfer() {
    let site = Site::new();
    let wanted = objects(9, 20);
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    fs::remove_dir(site.path("cache")).unwrap();
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!((status.state(), tally(&status).failed_write), (RequestState::Failed, 20), "{status:?}");
    assert!(status.error.contains("cache"), "{}", status.error);
    assert_eq!(origin.requests(), 0);
    fs::create_dir(site.path("cache")).unwrap();
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    // A folder that cannot be written: an object's folder is a file.
    fs::remove_dir_all(site.path("cache")).unwrap();
    fs::create_dir(site.path("cache")).unwrap();
    let folder = site.cached(&wanted[0]).parent().unwrap().to_owned();
    fs::write(&folder, "in the way").unwrap();
    let status = daemon.prefetch_bundle(&bundle).await;
    let blocked = wanted.iter().filter(|o| site.cached(o).starts_with(&folder)).count() as u64;
    assert_eq!((status.state(), tally(&status).failed_write), (RequestState::Failed, blocked), "{status:?}");
    assert!(site.temporary_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn as_root_a_full_disk_loses_only_what_does_not_fit() {
    let wanted = objects(50, 100);
    let raw: u64 = wanted.iter().map(|o| o.raw.len() as u64).sum();
    // Too few bytes or inodes. The folders of a cache take 258.
    for (options, what) in [(format!("size={}", raw / 2), "bytes"), ("nr_inodes=330".to_owned(), "inodes")] {
        let site = Site::new();
        let origin = Origin::start(&wanted).await;
        let image = bundle(what, &wanted);
        site.publish(&image);
        let _disk = SmallDisk::at(site.path("cache"), &options);
        let mut daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&image).await;
        let a = tally(&status);
        assert!(a.fetched_objects > 0, "{what}: {status:?}");
        assert!(a.skipped_cache_full_objects > 0 && a.failed_objects == 0, "{what}: {status:?}");
        for object in &wanted {
            let Ok(content) = fs::read(site.cached(object)) else { continue };
            assert!(content == object.raw, "{what}: a wrong object");
        }
        assert!(site.temporary_files().is_empty(), "{what}");
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_removed_during_a_request_is_filled_by_the_next() {
    let site = Site::new();
    let wanted = objects(51, 10);
    let origin = Origin::start(&wanted).await;
    origin.set(&wanted[9], Behaviour::Hold(wanted[9].stored.clone()));
    let image = bundle("image", &wanted);
    site.publish(&image);
    let daemon = Daemon::start(&site, &[&origin]).await;
    let id = daemon.client.prefetch(site::by_chain(&image)).await.unwrap();
    site::until("all but one are there", || site.cache_files().len() >= 9).await;
    fs::remove_dir_all(site.path("cache")).unwrap();
    fs::create_dir(site.path("cache")).unwrap();
    origin.open_gate();
    daemon.client.wait(id, site::LONG).await.unwrap();
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_its_objects_is_abandoned_and_not_tried_again() {
    let site = Site::new();
    let (gone, wanted) = (objects(60, 900), objects(61, 3));
    let (first, second, third) = (Origin::start([]).await, Origin::start([]).await, Origin::start(&wanted).await);
    site.publish(&bundle("image", &gone));
    let daemon = Daemon::start_with(&site, &[&first, &second, &third], "max_connections = 8").await;
    let status = daemon.prefetch_bundle(&bundle("image", &gone)).await;
    let a = tally(&status);
    assert_eq!(status.state(), RequestState::Failed, "{status:?}");
    assert!(
        status.error.contains("do not have many objects of this bundle") && status.error.contains("404"),
        "{status:?}"
    );
    // 32 in a row, and those that were under way.
    assert!((32..=40).contains(&a.failed_transfer) && a.failed_abandoned + a.failed_transfer == 900, "{status:?}");
    assert!(first.requests() <= 40 && second.requests() <= 40, "{} {}", first.requests(), second.requests());
    assert_eq!(third.requests(), 0, "two servers that do not have an object are enough");
    assert!(daemon.log().contains("the rest of the bundle is abandoned"));

    let before = first.requests();
    let again = daemon.prefetch_bundle(&bundle("image", &gone)).await;
    assert_eq!((again.state(), tally(&again).failed_abandoned), (RequestState::Failed, 900), "{again:?}");
    assert!(again.error.contains("is not used for 1h"), "{}", again.error);
    assert_eq!(first.requests(), before);
    // A command lets it be tried again, and another bundle is used at once.
    assert_eq!(daemon.client.remove_bundles(by_chain(&bundle("image", &gone))).await.unwrap(), 1);
    assert!(tally(&daemon.prefetch_bundle(&bundle("image", &gone)).await).failed_transfer > 0);
    assert!(first.requests() > before);
    wanted.iter().for_each(|object| first.set(object, Behaviour::Send(object.stored.clone())));
    site.publish(&bundle("image", &wanted));
    assert_eq!(daemon.prefetch_bundle(&bundle("image", &wanted)).await.state(), RequestState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_a_link_to_a_fifo_gets_no_reader() {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let site = Site::new();
    let wanted = objects(62, 2);
    let origin = Origin::start(&wanted).await;
    let fifo = |path: &std::path::Path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    // The FIFO of the cache manager, outside of the repository, and one that the repository itself has.
    let (outside, inside) = (site.path("cachemgr"), site.mount().join("fifo"));
    [&outside, &inside].into_iter().for_each(|path| fifo(path));
    let has_reader = |path: &std::path::Path| open(path, OFlag::O_WRONLY | OFlag::O_NONBLOCK, Mode::empty()).is_ok();
    let links = [
        ("absolute", outside.clone(), "leads out of the repository"),
        ("relative", "../../../../cachemgr".into(), "leads out of the repository"),
        ("inside", "../../../fifo".into(), "not a regular file"),
        ("process", "/proc/self/fd/0".into(), "leads out of the repository"),
    ];
    for (name, target, _) in &links {
        let path = site.publish(&bundle(name, &wanted));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
    }
    let ended = std::sync::atomic::AtomicBool::new(false);
    let daemon = Daemon::start(&site, &[&origin]).await;
    // Looks for a reader for as long as requests run.
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = false;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                seen |= has_reader(&outside) || has_reader(&inside);
            }
            seen
        });
        let requests = async {
            for (name, _, expected) in &links {
                let status = daemon.prefetch_bundle(&bundle(name, &wanted)).await;
                assert_eq!(status.state(), RequestState::Failed, "{name}: {status:?}");
                assert!(status.error.contains(expected), "{name}: {}", status.error);
                assert!(status.error.contains("image.bundle"), "{name}: {}", status.error);
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(requests));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(!seen, "somebody has opened a FIFO for reading");
    assert_eq!(origin.requests(), 0);
}
