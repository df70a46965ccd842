//! Each kind of sink by its rules, with the real daemon.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use api::proto::RequestState;
use bundles::bundle::NeededCatalog;
use bundles::object::ObjectKind;
use bundles::path::RootPath;

use site::{
    Daemon, Object, Origin, Registered, Site, TestManager, bundle, make_fifo, noise, objects, open_reader, tally, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_registered_after_it_is_visible() {
    let site = Site::new();
    let mut wanted = objects(1, 40);
    wanted.push(Object::new(&noise(9 << 20)));
    let origin = Origin::start(&wanted).await;
    let manager = TestManager::start(&site.path("cache"), 0);
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;
    for _ in 0..2 {
        assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    }
    let one = |object: &Object| Registered {
        digest: object.entry.hash.digest,
        size: object.raw.len() as u64,
        description: b"/some/file".to_vec(),
        visible: true,
    };
    let mut expected: Vec<_> = wanted.iter().map(one).collect();
    until("all records", || manager.registered().len() >= expected.len()).await;
    let mut told = manager.registered();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    let left: Vec<_> = fs::read_dir(site.path("cache")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("pipe")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_registration_does_not_fail_the_request() {
    for (case, protocol, listens, expected) in [
        ("other protocol", "3", true, "upgrade cvmfs-prefetch"),
        ("nobody listens", "2", false, "no cache manager listens"),
        ("full", "2", true, "does not keep up"),
    ] {
        let site = Site::new();
        let wanted = objects(2, 10);
        let origin = Origin::start(&wanted).await;
        let fifo = make_fifo(&site.path("cache"), protocol);
        let mut reader = listens.then(|| open_reader(&fifo));
        if case == "full" {
            fill(&fifo);
        }
        let bundle = bundle("image", &wanted);
        site.publish(&bundle);
        let daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&bundle).await;
        assert_eq!((status.state(), tally(&status).fetched_objects), (RequestState::Done, 10), "{case}: {status:?}");
        site.assert_cached(&wanted);
        let log = daemon.log();
        assert!(log.contains(expected), "{case}");
        if case == "other protocol" {
            assert_eq!(log.matches("not registered at the cache manager").count(), 1, "{case}: told once");
            assert_eq!(reader.as_mut().unwrap().read(&mut [0; 512]).unwrap_or(0), 0, "{case}: something was written");
        }
        if let Some(mut reader) = reader.filter(|_| case == "full") {
            let mut all = Vec::new();
            drop(reader.read_to_end(&mut all));
            assert!(all.iter().all(|byte| *byte == 0xee), "a part of a record was written");
        }
    }
}

/// Writes to a FIFO until it has no room.
fn fill(fifo: &std::path::Path) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut writer = fs::OpenOptions::new().write(true).custom_flags(flags).open(fifo).unwrap();
    while writer.write(&[0xee; 512]).is_ok() {}
    // It stays open in the test: a FIFO without any end forgets its bytes.
    std::mem::forget(writer);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alien_cache_is_filled_for_its_group_without_registration() {
    let mut site = Site::new();
    site.repository = "destination = \"alien\"\n".into();
    let wanted = objects(3, 5);
    let origin = Origin::start(&wanted).await;
    let mut reader = open_reader(&make_fifo(&site.path("cache"), "2"));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(site.path("cache"), None, Some(4321)).unwrap();
    }
    let group = fs::metadata(site.path("cache")).unwrap().gid();
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    site.assert_cached(&wanted);
    for object in &wanted {
        let (object, folder) = (site.cached(object), site.cached(object).parent().unwrap().to_owned());
        for (path, mode) in [(object, 0o660), (folder, 0o770)] {
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.mode() & 0o7777, found.gid()), (mode, group), "{path:?}");
        }
    }
    assert_eq!(reader.read(&mut [0; 512]).unwrap_or(0), 0, "an alien cache has no cache manager");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_beyond_the_quota_are_skipped_from_the_end() {
    for (pinned, fit) in [(0, 5), (900 << 10, 1), (2 << 20, 0)] {
        let mut site = Site::new();
        // A half of 1 MiB, for objects of 100 KiB.
        site.repository = "quota_mb = 1\n".into();
        let wanted: Vec<_> = (0..8).map(|i| Object::new(&[&[i], &noise((100 << 10) - 1)[..]].concat())).collect();
        let origin = Origin::start(&wanted).await;
        let _manager = TestManager::start(&site.path("cache"), pinned);
        let bundle = bundle("image", &wanted);
        site.publish(&bundle);
        let daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(&bundle).await;
        let a = tally(&status);
        assert_eq!(status.state(), RequestState::Done, "{status:?}");
        let counted = (a.fetched_objects, a.skipped_objects, a.skipped_cache_full_objects);
        assert_eq!(counted, (fit, 8 - fit, 8 - fit), "{pinned}: {status:?}");
        let (needed_first, rest) = wanted.split_at(fit as usize);
        site.assert_cached(needed_first);
        assert!(rest.iter().all(|object| !site.cached(object).exists()));
        // What is there does not count against the room for the rest.
        let again = tally(&daemon.prefetch_bundle(&bundle).await);
        assert_eq!(again.cached_objects, fit);
        assert_eq!(again.fetched_objects, fit.min(8 - fit), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_follow_each_other_do_not_evict_everything() {
    let mut site = Site::new();
    site.repository = "quota_mb = 1\n".into();
    let wanted: Vec<_> = (0..20).map(|i| Object::new(&[&[i], &noise((100 << 10) - 1)[..]].concat())).collect();
    let origin = Origin::start(&wanted).await;
    let _manager = TestManager::start(&site.path("cache"), 0);
    let images: Vec<_> = wanted.chunks(5).enumerate().map(|(i, some)| bundle(&format!("image {i}"), some)).collect();
    images.iter().for_each(|image| _ = site.publish(image));
    let daemon = Daemon::start_with(&site, &[&origin], "cache_share_per_hour = 0.7").await;
    // Each fits into half of the quota.
    for (image, fit) in images.iter().zip([5, 2, 0, 0]) {
        let status = daemon.prefetch_bundle(image).await;
        let a = tally(&status);
        let counts = (a.fetched_objects, a.skipped_objects, a.skipped_cache_full_objects);
        assert_eq!(counts, (fit, 5 - fit, 0), "{status:?}");
        assert_eq!(daemon.log().contains("cache_share_per_hour"), fit < 5);
    }
    assert!(daemon.log().contains("skipped_hourly_limit=3"), "the log line has the cause");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogs_of_a_bundle_are_loaded_within_a_budget() {
    for (pinned, loaded) in [(0, 384), (200 << 10, 0)] {
        let mut site = Site::new();
        site.repository = "quota_mb = 1\n".into();
        let wanted = objects(8, 1);
        let origin = Origin::start(&wanted).await;
        let _manager = TestManager::start(&site.path("cache"), pinned);
        let mut image = bundle("image", &wanted);
        let catalog = |path: String| NeededCatalog { repository: 0, mountpoint: RootPath::new(path).unwrap() };
        // Not where images are published.
        image.catalogs.push(catalog("/home".into()));
        image.catalogs.extend((0..1000).map(|number| catalog(format!("/.layers/{number}"))));
        site.publish(&image);
        let daemon = Daemon::start(&site, &[&origin]).await;
        daemon.prefetch_bundle(&image).await;
        until("the end", || daemon.log().contains("catalogs of the bundle")).await;
        let log = daemon.log();
        // No directory is there, so there is a line for each that is opened.
        assert_eq!(log.matches("skipped a file path=/.layers/").count(), loaded, "{pinned}");
        assert_eq!(log.contains("too much of the quota is pinned"), loaded == 0);
        assert!(!log.contains("path=/home"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_through_the_mount_of_a_closed_cache() {
    let mut site = Site::new();
    site.repository = "destination = \"mount\"\n".into();
    let mut wanted = objects(4, 5);
    for (number, object) in wanted.iter_mut().enumerate() {
        object.entry.path = RootPath::new(format!("/layer/file-{number}")).unwrap();
    }
    fs::create_dir(site.mount().join("layer")).unwrap();
    // The last one is missing.
    for object in &wanted[..4] {
        fs::write(site.mount().join(&object.entry.path.to_string()[1..]), &object.raw).unwrap();
    }
    let mut chunk = wanted[0].clone();
    chunk.entry.kind = ObjectKind::Chunk;
    (chunk.entry.offset, chunk.entry.raw_size) = (100, 50);
    chunk.entry.hash.digest[0] ^= 1;
    wanted.push(chunk);
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch_bundle(&bundle).await;
    let a = tally(&status);
    assert_eq!((a.fetched_objects, a.failed_transfer, a.fetched_stored_bytes), (5, 1, 0), "{status:?}");
    assert!(status.error.contains("/layer/file-4"), "{}", status.error);
    assert_eq!((origin.requests(), site.cache_files().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_mount_fails_its_objects_and_the_daemon_continues() {
    let mut site = Site::new();
    site.repository = "destination = \"mount\"\n".into();
    let mut wanted = objects(5, 40);
    for (number, object) in wanted.iter_mut().enumerate() {
        object.entry.path = RootPath::new(format!("/file-{number}")).unwrap();
        fs::write(site.mount().join(format!("file-{number}")), &object.raw).unwrap();
    }
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let mut daemon = Daemon::start_with(&site, &[&origin], "lookup_timeout = \"1s\"").await;
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    // Opening a FIFO without a writer blocks as a hung mount does.
    fs::remove_dir_all(site.mount()).unwrap();
    nix::unistd::mkfifo(&site.mount(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!((status.state(), tally(&status).failed_transfer), (RequestState::Failed, 40), "{status:?}");
    assert!(status.error.contains("did not respond"), "{}", status.error);
    fs::remove_file(site.mount()).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.ended().await.success());
}

/// What `check` says for a node whose client is configured by `local`, and whether it succeeded.
fn check(site: &Site, local: &str) -> (bool, serde_json::Value, String) {
    fs::create_dir_all(site.client_config()).unwrap();
    fs::write(site.client_config().join("default.local"), local).unwrap();
    let config = site.path("check.toml");
    let (client, mount) = (site.client_config(), site.mount());
    let repository =
        format!("disk_reserve = 0.0\n[[repositories]]\nname = {:?}\nmount = {mount:?}\n", site::REPOSITORY);
    fs::write(&config, format!("client_config = {client:?}\n{repository}")).unwrap();
    let run = |more: &[&str]| {
        let program = env!("CARGO_BIN_EXE_cvmfs-prefetchd");
        Command::new(program).arg("check").arg("--config").arg(&config).args(more).output().unwrap()
    };
    let (json, text) = (run(&["--json"]), run(&[]));
    assert_eq!(json.status.success(), text.status.success());
    let said = String::from_utf8_lossy(&json.stderr).into_owned();
    let value = serde_json::from_slice(&json.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    (json.status.success(), value, String::from_utf8(text.stdout).unwrap())
}

#[test]
fn check_shows_what_is_used_and_why() {
    let site = Site::new();
    let base = site.path("base");
    fs::create_dir_all(base.join("shared")).unwrap();
    let _manager = TestManager::start(&base.join("shared"), 4000);
    let client = format!(
        "CVMFS_SERVER_URL='http://one/cvmfs/@fqrn@;http://two/cvmfs/@fqrn@'\nCVMFS_HTTP_PROXY='http://a:1|http://b:2;DIRECT'\n\
         CVMFS_CACHE_BASE={}\nCVMFS_SHARED_CACHE=yes\nCVMFS_QUOTA_LIMIT=2\nX509_CERT_DIR=/nonexistent/grid\n",
        base.display()
    );
    let (success, reports, text) = check(&site, &client);
    let one = &reports[0];
    assert!(success, "{one}");
    assert_eq!(one["repository"], site::REPOSITORY);
    assert_eq!(one["upstream"]["servers"][1], format!("http://two/cvmfs/{}", site::REPOSITORY));
    assert_eq!(one["upstream"]["proxies"], serde_json::json!([["http://a:1", "http://b:2"], ["DIRECT"]]));
    assert_eq!(one["upstream"]["timeout_s"], 5);
    let destination = &one["destination"];
    assert_eq!(
        (&destination["kind"], &destination["manager_protocol"]),
        (&"managed".into(), &2.into()),
        "{destination}"
    );
    let user = nix::unistd::geteuid().as_raw();
    assert_eq!((&destination["user"], &destination["expected_user"]), (&user.into(), &user.into()));
    let free_space = &destination["free_space"];
    for (key, expected) in
        [("bytes", 1 << 20), ("hourly_bytes", 2 << 20), ("quota", 2 << 20), ("used", 5000), ("pinned", 4000)]
    {
        assert_eq!(free_space[key], expected, "{key}: {free_space}");
    }
    assert_eq!((&destination["disk"]["reserve"], &free_space["unregistered"]), (&0.0.into(), &0.into()));
    assert!(destination["reason"].as_str().unwrap().contains("cache manager listens"), "{destination}");
    assert_eq!(one["mount"]["answers"], true);
    for expected in [
        "http://a:1 | http://b:2, then DIRECT",
        "authorities, and those in /nonexistent/grid\n",
        "managed cache: ",
        "protocol 2",
        "requests may write 1 MiB, in an hour 2 MiB",
        "0 % stay free",
        "a kubelet evicts pods below 10 or 15 %",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }

    let exclusive = client.replace("SHARED_CACHE=yes", "SHARED_CACHE=no");
    let (success, reports, text) = check(&site, &exclusive);
    assert!(success && reports[0]["destination"]["kind"] == "mount", "{reports}");
    assert!(text.contains("the client's alone"), "{text}");

    // The cache directory is not there, nor is the mount: nothing would come of a request.
    fs::remove_dir_all(site.mount()).unwrap();
    for local in [client.replace("/base", "/other"), exclusive] {
        let (success, reports, text) = check(&site, &local);
        assert!(!success && text.contains("PROBLEM"), "{reports}");
    }
}
