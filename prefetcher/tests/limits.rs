//! The limits that keep to their word: requests a second to a proxy, bytes a second of a request, and the pause of those who
//! come when many do.

#![allow(clippy::unwrap_used)]

mod site;

use std::time::{Duration, Instant};

use api::client::Client;
use api::proto::{Image, PrefetchRequest, RequestState, RequestStatus};
use bundles::object::ObjectKind;
use flate2::Compression;
use tonic::Code;

use site::{Behaviour, Daemon, LONG, Object, Origin, Site, bundle, by_chain, noise, objects, tally};

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_a_proxy_keep_to_the_configured_rate() {
    let wanted = objects(1, 40);
    let proxy = Origin::start(&wanted).await;
    let mut site = Site::new();
    site.proxy = Some(proxy.proxy());
    let bundle = bundle("image", &wanted);
    site.publish(&bundle);
    let daemon = Daemon::start_with(&site, &[&proxy], "max_requests_per_second = 25").await;
    let before = Instant::now();
    let status = daemon.prefetch_bundle(&bundle).await;
    assert_eq!((status.state(), tally(&status).fetched_objects), (RequestState::Done, 40), "{status:?}");
    let mut times = proxy.times();
    times.sort();
    assert_eq!(times.len(), 40);
    for (number, time) in times.iter().enumerate() {
        // 20 ms are saved up while nobody asks.
        let earliest = Duration::from_millis(40 * number as u64).saturating_sub(Duration::from_millis(20));
        assert!(time.duration_since(before) >= earliest, "request {number} came early");
    }
}

/// An object of so many bytes on the server.
fn incompressible(size: usize) -> Object {
    Object::compressed(&noise(size), Compression::none(), ObjectKind::File)
}

async fn ask(client: &Client, image: Image, bytes_per_second: u64) -> u64 {
    let call = PrefetchRequest { image: Some(image), bytes_per_second, ..PrefetchRequest::default() };
    client.submit(call).await.unwrap()
}

async fn wait(client: &Client, id: u64) -> RequestStatus {
    client.wait(id, LONG).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_to_its_bandwidth_limit_and_delays_no_other() {
    // The last takes most of an hour at 1024 bytes a second.
    let (site, wanted, slow) = (Site::new(), (0..20).map(|n| incompressible(5000 + n)), incompressible(3 << 20));
    let wanted: Vec<Object> = wanted.collect();
    let origin = Origin::start(wanted.iter().chain([&slow])).await;
    let limited = bundle("limited", wanted.iter().take(10));
    let (endless, free) = (bundle("endless", [&slow]), bundle("free", wanted.iter().skip(10)));
    [&limited, &endless, &free].into_iter().for_each(|bundle| _ = site.publish(bundle));
    let daemon = Daemon::start(&site, &[&origin]).await;
    let client = &daemon.client;

    let bytes: u64 = limited.objects.iter().map(|object| object.stored_size).sum();
    let (limit, before) = (2 * bytes, Instant::now());
    let status = wait(client, ask(client, by_chain(&limited), limit).await).await;
    assert_eq!((status.state(), status.bytes_per_second), (RequestState::Done, limit), "{status:?}");
    assert!(before.elapsed() >= Duration::from_millis(480), "{bytes} bytes came in {:?}", before.elapsed());

    let id = ask(client, by_chain(&endless), 1024).await;
    site::until("it is requested", || origin.requests_for(&slow) == 1).await;
    let beside = wait(client, ask(client, by_chain(&free), 0).await).await;
    assert_eq!((beside.state(), beside.bytes_per_second), (RequestState::Done, 0), "{beside:?}");
    assert_eq!(client.status(id).await.unwrap().state(), RequestState::Running);
    // Who wants the same without a limit lifts it, also for what is on its way.
    assert_eq!(ask(client, by_chain(&endless), 0).await, id);
    let status = wait(client, id).await;
    assert_eq!((status.state(), status.bytes_per_second), (RequestState::Done, 0), "{status:?}");
    assert_eq!(origin.requests_for(&slow), 1, "it was begun again");
    site.assert_cached(wanted.iter().chain([&slow]));

    let call = PrefetchRequest { image: Some(by_chain(&free)), bytes_per_second: 9, ..PrefetchRequest::default() };
    let error = client.submit(call).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_an_overloaded_server_start_after_a_pause() {
    let (site, wanted) = (Site::new(), objects(3, 4));
    let origin = Origin::start(&wanted).await;
    origin.set(&wanted[0], Behaviour::Status(503, "busy"));
    let images = [("before", 1), ("busy", 0), ("after", 2)].map(|(name, object)| bundle(name, [&wanted[object]]));
    images.iter().for_each(|bundle| _ = site.publish(bundle));
    let daemon = Daemon::start(&site, &[&origin]).await;
    let pauses = || daemon.log().matches("a pause before the first request").count();
    for (image, state, expected) in [
        (&images[0], RequestState::Done, 0),
        (&images[1], RequestState::Failed, 0),
        (&images[2], RequestState::Done, 1),
        // All is there: nobody is asked, and nothing waited for.
        (&images[2], RequestState::Done, 1),
    ] {
        let status = daemon.prefetch_bundle(image).await;
        assert_eq!((status.state(), pauses()), (state, expected), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_object_that_another_request_fetches_slowly() {
    // It takes most of an hour at 1024 bytes a second.
    let (site, slow) = (Site::new(), incompressible(3 << 20));
    let origin = Origin::start([&slow]).await;
    let (hostile, honest) = (bundle("hostile", [&slow]), bundle("honest", [&slow]));
    [&hostile, &honest].into_iter().for_each(|bundle| _ = site.publish(bundle));
    let daemon = Daemon::start(&site, &[&origin]).await;
    let client = &daemon.client;
    let id = ask(client, by_chain(&hostile), 1024).await;
    site::until("it is requested", || origin.requests_for(&slow) == 1).await;
    let status = wait(client, ask(client, by_chain(&honest), 0).await).await;
    assert_eq!((status.state(), tally(&status).fetched_objects), (RequestState::Done, 1), "{status:?}");
    assert_eq!(client.status(id).await.unwrap().state(), RequestState::Running);
    site.assert_cached([&slow]);
}
