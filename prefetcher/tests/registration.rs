//! Objects that cannot be registered with the cache manager at first, with the real daemon.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use api::proto::RequestState;
use nix::sys::signal::Signal;

use site::{Daemon, Object, Origin, Site, TestManager, bundle, make_fifo, noise, objects, open_reader, tally, until};

/// All objects, and nothing else, get registered by a manager that reads from now on.
async fn assert_registered(site: &Site, manager: &TestManager, wanted: &[Object]) {
    until("all objects to be registered", || manager.registered().len() >= wanted.len()).await;
    let mut found: Vec<_> = manager.registered().iter().map(|one| (one.digest, one.size, one.visible)).collect();
    found.sort();
    let mut expected: Vec<_> = wanted.iter().map(|one| (one.entry.hash.digest, one.raw.len() as u64, true)).collect();
    expected.sort();
    assert_eq!(found, expected);
    until("nothing to be recorded", || !site.unregistered().exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_registered_once_a_manager_listens() {
    for is_restarted in [false, true] {
        let (site, wanted) = (Site::new(), objects(60, 30));
        let origin = Origin::start(&wanted).await;
        let fifo = make_fifo(&site.path("cache"), "2");
        let image = bundle("image", &wanted);
        site.publish(&image);
        let mut daemon = Daemon::start(&site, &[&origin]).await;
        assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
        if is_restarted {
            daemon.signal(Signal::SIGKILL);
            daemon.ended().await;
            daemon = Daemon::start(&site, &[&origin]).await;
        }
        let manager = TestManager::read(open_reader(&fifo), &site.path("cache"), 0);
        assert_registered(&site, &manager, &wanted).await;
        drop(daemon);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_registered_after_the_fifo_was_full() {
    let (site, wanted) = (Site::new(), objects(61, 30));
    let origin = Origin::start(&wanted).await;
    let fifo = make_fifo(&site.path("cache"), "2");
    let mut reader = open_reader(&fifo);
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut writer = fs::OpenOptions::new().write(true).custom_flags(flags).open(&fifo).unwrap();
    let mut filled = 0;
    while let Ok(written) = writer.write(&[0xee; 512]) {
        filled += written;
    }
    let image = bundle("image", &wanted);
    site.publish(&image);
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    site.assert_cached(&wanted);
    reader.read_exact(&mut vec![0; filled]).unwrap();
    let manager = TestManager::read(reader, &site.path("cache"), 0);
    assert_registered(&site, &manager, &wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_cache_manager_gets_a_tenth_of_its_quota() {
    let mut site = Site::new();
    site.repository = "quota_mb = 1\n".into();
    let wanted: Vec<_> = (0..12).map(|i| Object::new(&[&[i], &noise((20 << 10) - 1)[..]].concat())).collect();
    let origin = Origin::start(&wanted).await;
    let _reader = open_reader(&make_fifo(&site.path("cache"), "3"));
    let images: Vec<_> = wanted.chunks(4).enumerate().map(|(i, some)| bundle(&format!("image {i}"), some)).collect();
    images.iter().for_each(|image| _ = site.publish(image));
    let mut fetched = 0;
    for image in &images {
        let mut daemon = Daemon::start(&site, &[&origin]).await;
        let status = daemon.prefetch_bundle(image).await;
        let a = tally(&status);
        assert_eq!((status.state(), a.failed_objects), (RequestState::Done, 0), "{status:?}");
        fetched += a.fetched_objects;
        assert_eq!(a.skipped_cache_full_objects, 4 - a.fetched_objects, "{status:?}");
        assert!(daemon.log().contains("upgrade cvmfs-prefetch"));
        daemon.signal(Signal::SIGKILL);
        daemon.ended().await;
    }
    // 5 of 20 KiB are a tenth of 1 MiB, whatever the number of requests and daemons.
    assert_eq!(fetched, 5);
    assert_eq!(wanted.iter().filter(|object| site.cached(object).exists()).count(), 5);
}
