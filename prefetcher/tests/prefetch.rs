//! Objects get into the cache, each once, whatever way their bundle came.

#![allow(clippy::unwrap_used)]

mod site;

use api::proto::{Image, RequestState};
use bundles::object::ObjectKind;
use flate2::Compression;
use tonic::Code;

use site::{
    Behaviour, Daemon, LONG, Object, Origin, Site, bundle, by_chain, by_manifest, noise, objects, tally, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_published_bundle_fills_the_cache_once() {
    let site = Site::new();
    let mut wanted = objects(1, 300);
    wanted.push(Object::new(b""));
    wanted.push(Object::compressed(b"piece", Compression::best(), ObjectKind::Chunk));
    wanted.push(Object::compressed(b"SQLite", Compression::fast(), ObjectKind::Catalog));
    wanted.push(Object::compressed(&noise(7 << 20), Compression::fast(), ObjectKind::File));
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("python", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;

    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    assert!(status.bundle_source.ends_with("/image.bundle") && status.lookup_us > 0, "{status:?}");
    let a = tally(&status);
    assert_eq!((a.total_objects, a.fetched_objects), (304, 304));
    assert_eq!(a.fetched_stored_bytes, wanted.iter().map(|o| o.stored.len() as u64).sum::<u64>());
    assert_eq!(a.fetched_raw_bytes, wanted.iter().map(|o| o.raw.len() as u64).sum::<u64>());
    site.assert_cached(&wanted);
    assert_eq!((site.cache_files().len(), site.temporary_files().len()), (304, 0));

    // Bundle from the store now, by either name; the mount may be gone.
    std::fs::remove_dir_all(site.mount()).unwrap();
    for image in [by_chain(&bundle), by_manifest(&bundle)] {
        let status = daemon.prefetch(image).await;
        assert_eq!((status.state(), status.bundle_source.as_str()), (RequestState::Done, "store"));
        assert_eq!(tally(&status).cached_objects, 304);
    }
    assert_eq!(origin.requests(), 304);

    let list = daemon.client.list().await.unwrap();
    assert_eq!(list.requests.iter().map(|r| r.request_id).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((list.bundles.len(), list.bundles[0].objects), (1, 304));
    assert_eq!(list.bundles[0].image.as_ref().unwrap().chain_id, by_chain(&bundle).chain_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_found_by_its_manifest_alone() {
    let site = Site::new();
    let wanted = objects(2, 3);
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("gcc", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;
    let status = daemon.prefetch(by_manifest(&bundle)).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    assert!(status.bundle_source.contains("/.bundles/manifests/"), "{status:?}");
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_fetched_in_the_order_of_the_bundle() {
    let site = Site::new();
    let wanted = objects(3, 40);
    let origin = Origin::start(&wanted).await;
    let bundle = bundle("ordered", wanted.iter().rev());
    site.publish(&bundle);
    // One connection: the order on the wire is the order of asking.
    let daemon = Daemon::start_with(&site, &[&origin], "max_connections = 1").await;
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    let asked: Vec<String> = origin.log().iter().map(|p| p[p.find("data/").unwrap()..].to_owned()).collect();
    assert_eq!(asked, wanted.iter().rev().map(Object::url_path).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_proxy_is_used() {
    let mut site = Site::new();
    let wanted = objects(6, 5);
    let (proxy, behind) = (Origin::start(&wanted).await, Origin::start(&wanted).await);
    site.proxy = Some(proxy.proxy());
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&behind]).await;
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    assert_eq!((proxy.requests(), behind.requests()), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_one_image_join_and_shared_objects_are_fetched_once() {
    let site = Site::new();
    let wanted = objects(4, 3);
    let origin = Origin::start(&wanted).await;
    origin.set(&wanted[0], Behaviour::Hold(wanted[0].stored.clone()));
    let (one, two) = (bundle("one", &wanted[..2]), bundle("two", [&wanted[0], &wanted[2]]));
    site.publish(&one);
    site.publish(&two);
    let daemon = Daemon::start(&site, &[&origin]).await;

    let first = daemon.client.prefetch(by_chain(&one)).await.unwrap();
    until("the held object is requested", || origin.requests_for(&wanted[0]) == 1).await;
    assert_eq!(daemon.client.prefetch(by_chain(&one)).await.unwrap(), first);
    let second = daemon.client.prefetch(by_chain(&two)).await.unwrap();
    assert_ne!(second, first);
    until("the other request goes on beside it", || origin.requests_for(&wanted[2]) == 1).await;
    assert_eq!(daemon.client.status(first).await.unwrap().state(), RequestState::Running);
    assert!(!site.cached(&wanted[0]).exists());

    origin.open_gate();
    let statuses = [first, second].map(|id| daemon.client.wait(id, LONG));
    for status in futures::future::join_all(statuses).await {
        assert_eq!(status.as_ref().unwrap().state(), RequestState::Done, "{status:?}");
        let a = tally(&status.unwrap());
        assert_eq!(a.total_objects, 2);
        assert!(a.fetched_objects >= 1, "{a:?}");
    }
    let joined = tally(&daemon.client.status(second).await.unwrap()).joined_objects;
    assert_eq!((joined, origin.requests()), (1, 3));
    site.assert_cached(&wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_images_at_once_fetch_each_object_once() {
    let site = Site::new();
    let wanted = objects(5, 50);
    let origin = Origin::start(&wanted).await;
    let bundles: Vec<_> = (0..64).map(|i| bundle(&format!("image {i}"), &wanted)).collect();
    for bundle in &bundles {
        site.publish(bundle);
    }
    let daemon = Daemon::start(&site, &[&origin]).await;
    let statuses = futures::future::join_all(bundles.iter().map(|b| daemon.prefetch_bundle(b))).await;
    let fetched: u64 = statuses.iter().map(|s| tally(s).fetched_objects).sum();
    assert!(statuses.iter().all(|s| s.state() == RequestState::Done), "{statuses:?}");
    assert_eq!((fetched, origin.requests()), (50, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_needs_less_memory_than_its_size() {
    let site = Site::new();
    let large = Object::compressed(&noise(160 << 20), Compression::none(), ObjectKind::File);
    let origin = Origin::start([&large]).await;
    let bundle = bundle("large", [&large]);
    site.publish(&bundle);
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&bundle).await.state(), RequestState::Done);
    site.assert_cached([&large]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 80 << 10, "peak of {peak_kib} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_calls_get_the_right_status_code() {
    let site = Site::new();
    let origin = Origin::start([]).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    for image in [Image::default(), Image { chain_id: "sha256:123".into(), ..Image::default() }] {
        let error = daemon.client.prefetch(image).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    }
    let error = daemon.client.status(99).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound), "{error}");
}
