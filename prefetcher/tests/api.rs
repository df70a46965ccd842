//! What can be done with a request while it runs, and what the daemon tells about itself.

#![allow(clippy::unwrap_used)]

mod site;

use std::time::{Duration, Instant};

use api::proto::{Image, PrefetchRequest, Priority, RequestState, RequestStatus};
use bundles::bundle::Bundle;
use bundles::phase::Phase;
use futures::StreamExt;
use nix::sys::signal::Signal;
use tonic::Code;

use site::{Behaviour, Daemon, LONG, Object, Origin, Site, by_chain, by_manifest, noise, objects, tally, until};

/// An object whose server holds it back after the first half, and two that come at once. The daemon is fetching.
struct Held {
    site: Site,
    origin: Origin,
    daemon: Daemon,
    wanted: Vec<Object>,
    bundle: Bundle,
    id: u64,
}

impl Held {
    async fn start(call: impl FnOnce(&Bundle) -> PrefetchRequest) -> Self {
        let (site, mut wanted) = (Site::new(), objects(1, 2));
        wanted.insert(0, Object::new(&noise(7 << 20)));
        let origin = Origin::start(&wanted).await;
        origin.set(&wanted[0], Behaviour::Hold(wanted[0].stored.clone()));
        let bundle = site::bundle("image", &wanted);
        site.publish(&bundle);
        let daemon = Daemon::start(&site, &[&origin]).await;
        let id = daemon.client.submit(call(&bundle)).await.unwrap();
        let held = Self { site, origin, daemon, wanted, bundle, id };
        until("the small objects and half of the large one", || {
            held.site.temporary_files().len() == 1 && held.site.cache_files().len() == 3
        })
        .await;
        // An object is in the cache a moment before the request knows.
        let mut seen = held.status().await;
        while seen.tally.unwrap_or_default().fetched_objects < 2 {
            assert_eq!(seen.state(), RequestState::Running, "{seen:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
            seen = held.status().await;
        }
        held
    }

    async fn status(&self) -> RequestStatus {
        self.daemon.client.status(self.id).await.unwrap()
    }

    async fn wait(&self) -> RequestStatus {
        self.daemon.client.wait(self.id, LONG).await.unwrap()
    }
}

fn ask(bundle: &Bundle) -> PrefetchRequest {
    PrefetchRequest { image: Some(by_chain(bundle)), ..PrefetchRequest::default() }
}

/// Ended in `state` with the held object cancelled, the others cached, and nothing left over.
async fn assert_given_up(held: &Held, status: &RequestStatus, state: RequestState) {
    assert_eq!(status.state(), state, "{status:?}");
    let a = tally(status);
    assert_eq!((a.fetched_objects, a.failed_cancelled, a.failed_objects), (2, 1, 1), "{status:?}");
    held.site.assert_cached(&held.wanted[1..]);
    until("the temporary file goes", || held.site.temporary_files().is_empty()).await;
    assert!(!held.site.cached(&held.wanted[0]).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_ends_at_once_and_the_next_one_completes() {
    let held = Held::start(ask).await;
    let client = &held.daemon.client;
    // The origin holds for ever: an answer is proof enough.
    let status = client.cancel(held.id).await.unwrap();
    assert_given_up(&held, &status, RequestState::Cancelled).await;

    let next = client.prefetch(by_chain(&held.bundle)).await.unwrap();
    assert_ne!(next, held.id);
    until("it is requested again", || held.origin.requests_for(&held.wanted[0]) == 2).await;
    held.origin.open_gate();
    let status = client.wait(next, LONG).await.unwrap();
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    held.site.assert_cached(&held.wanted);
    // What has ended stays as it is.
    for id in [held.id, next] {
        let before = client.status(id).await.unwrap();
        assert_eq!(client.cancel(id).await.unwrap(), before);
        assert_eq!(client.set_priority(id, Priority::High).await.unwrap(), before);
    }
    assert_eq!(client.cancel(99).await.unwrap_err().code(), Some(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_request_does_not_fail_those_that_joined_its_objects() {
    let held = Held::start(ask).await;
    let other = site::bundle("other", [&held.wanted[0]]);
    held.site.publish(&other);
    let client = &held.daemon.client;
    let second = client.prefetch(by_chain(&other)).await.unwrap();
    let planned = |status: RequestStatus| status.tally.unwrap().total_objects == 1;
    while !planned(client.status(second).await.unwrap()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.cancel(held.id).await.unwrap();
    held.origin.open_gate();
    let status = client.wait(second, LONG).await.unwrap();
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    held.site.assert_cached(&held.wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_request_with_what_it_has() {
    let started = Instant::now();
    let held = Held::start(|bundle| PrefetchRequest { deadline_ms: 5000, ..ask(bundle) }).await;
    let status = held.wait().await;
    assert!(started.elapsed() >= Duration::from_secs(5), "before its deadline");
    assert_eq!(status.deadline_ms, 5000);
    assert_given_up(&held, &status, RequestState::Deadline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_critical_ends_with_the_critical_objects_or_in_time() {
    let held = Held::start(|bundle| {
        let mut late = bundle.clone();
        late.objects[0].need.phase = Phase::Main;
        PrefetchRequest { bundle: late.to_bytes().unwrap(), ..ask(bundle) }
    })
    .await;
    let client = &held.daemon.client;
    let reply = client.wait_critical(held.id, LONG).await.unwrap();
    let status = reply.status.unwrap();
    let a = status.tally.unwrap();
    assert!(reply.critical && status.state() == RequestState::Running, "{status:?}");
    assert!(a.critical_objects == 2 && a.time_to_critical_us >= a.time_to_first_byte_us, "{a:?}");
    assert!(a.time_to_first_byte_us > 0);

    // Of the published bundle all is critical, and the large object does not come.
    let all = client.prefetch(by_chain(&held.bundle)).await.unwrap();
    for limit in [Duration::ZERO, Duration::from_millis(300)] {
        let started = Instant::now();
        let reply = client.wait_critical(all, limit).await.unwrap();
        // Without the limit there would be no answer at all.
        assert!(!reply.critical && started.elapsed() >= limit, "{reply:?}");
        assert_eq!(reply.status.unwrap().tally.unwrap().time_to_critical_us, 0);
    }
    // It becomes clear that it will not come.
    let waiter = client.clone();
    let waiter = tokio::spawn(async move { waiter.wait_critical(all, LONG).await });
    client.cancel(all).await.unwrap();
    assert!(!waiter.await.unwrap().unwrap().critical);
    held.origin.open_gate();
    assert_eq!(held.wait().await.state(), RequestState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_raises_the_priority_and_clients_can_change_it() {
    let named = |bundle: &Bundle, priority: Priority, name: &str| PrefetchRequest {
        priority: priority.into(),
        correlation_id: name.into(),
        ..ask(bundle)
    };
    let held = Held::start(|bundle| named(bundle, Priority::Low, "sandbox-4711")).await;
    let client = &held.daemon.client;
    let status = client.status(held.id).await.unwrap();
    assert_eq!((status.priority(), &*status.correlation_id), (Priority::Low, "sandbox-4711"));
    assert_eq!(client.submit(named(&held.bundle, Priority::Unspecified, "second-4712")).await.unwrap(), held.id);
    let status = client.status(held.id).await.unwrap();
    assert_eq!((status.priority(), status.joined_calls), (Priority::Normal, 1));
    let status = client.set_priority(held.id, Priority::High).await.unwrap();
    assert_eq!(status.priority(), Priority::High);
    assert_eq!(client.set_priority(held.id, Priority::Low).await.unwrap().priority(), Priority::Low);
    let error = client.set_priority(held.id, Priority::Unspecified).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    held.origin.open_gate();
    held.wait().await;
    // The log comes a little later than the answer.
    let told = |line: &str| line.contains("sandbox-4711") && line.contains("request ended");
    site::until("the end is logged", || held.daemon.log().lines().any(told)).await;
    assert!(held.daemon.log().contains("second-4712"), "{}", held.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_in_the_request_is_used_and_not_stored() {
    let (site, wanted) = (Site::new(), objects(2, 4));
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let own = site::bundle("own", &wanted);
    let bundle = own.to_bytes().unwrap();
    let id = daemon.client.submit(PrefetchRequest { bundle: bundle.clone(), ..Default::default() }).await.unwrap();
    let status = daemon.client.wait(id, LONG).await.unwrap();
    assert_eq!((status.state(), &*status.bundle_source), (RequestState::Done, "request"), "{status:?}");
    assert_eq!(status.image.as_ref().unwrap().chain_id, by_chain(&own).chain_id);
    let a = tally(&status);
    assert_eq!((a.fetched_objects, a.critical_objects), (4, 4));
    assert_eq!(a.total_raw_bytes, wanted.iter().map(|o| o.raw.len() as u64).sum::<u64>());
    assert_eq!((a.total_stored_bytes, a.total_raw_bytes), (a.fetched_stored_bytes, a.fetched_raw_bytes));
    site.assert_cached(&wanted);
    assert!(daemon.client.list().await.unwrap().bundles.is_empty());

    let mut spoilt = bundle.clone();
    spoilt[100] ^= 1;
    let other = Some(by_chain(&site::bundle("other", [])));
    for (image, bundle, expected) in
        [(None, spoilt, "bundle: "), (other, bundle, "not for the one that the request names")]
    {
        let error = daemon.client.submit(PrefetchRequest { image, bundle, ..Default::default() }).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_bundle_is_found_by_reference_and_can_be_removed() {
    let (site, wanted) = (Site::new(), objects(3, 2));
    let origin = Origin::start(&wanted).await;
    let daemon = Daemon::start(&site, &[&origin]).await;
    let by_reference = |name: &str| Image { reference: name.into(), ..Image::default() };
    let (one, two) = (site::bundle("one", &wanted), site::bundle("two", &wanted));
    for bundle in [&one, &two] {
        site.publish(bundle);
        assert_eq!(daemon.prefetch_bundle(bundle).await.state(), RequestState::Done);
    }
    std::fs::remove_dir_all(site.mount()).unwrap();
    let status = daemon.prefetch(by_reference("one")).await;
    assert_eq!((status.state(), &*status.bundle_source), (RequestState::Done, "store"), "{status:?}");
    assert!(tally(&status).cached_raw_bytes > 0);
    assert_eq!(daemon.prefetch(by_reference("on")).await.state(), RequestState::NoBundle);

    assert_eq!(daemon.client.remove_bundles(by_manifest(&two)).await.unwrap(), 1);
    let left = daemon.client.list().await.unwrap().bundles;
    assert_eq!(left.iter().map(|b| &*b.image.as_ref().unwrap().reference).collect::<Vec<_>>(), ["one"]);
    for removed in [1, 0] {
        assert_eq!(daemon.client.remove_bundles(by_reference("one")).await.unwrap(), removed);
    }
    assert_eq!(daemon.prefetch(by_reference("one")).await.state(), RequestState::NoBundle);
    site.assert_cached(&wanted);
    assert_eq!(daemon.client.remove_bundles(Image::default()).await.unwrap_err().code(), Some(Code::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_progress_and_the_end() {
    let held = Held::start(ask).await;
    let mut statuses = held.daemon.client.watch(held.id, Duration::from_millis(20)).await.unwrap();
    for _ in 0..3 {
        let status = statuses.next().await.unwrap().unwrap();
        assert_eq!(status.state(), RequestState::Running, "{status:?}");
    }
    held.origin.open_gate();
    let rest: Vec<_> = statuses.map(Result::unwrap).collect().await;
    assert_eq!(rest.last().unwrap().state(), RequestState::Done, "{rest:?}");
    assert_eq!(rest.last(), Some(&held.wait().await));
    let ended = held.daemon.client.watch(held.id, LONG).await.unwrap();
    assert_eq!(ended.count().await, 1);
    let Err(error) = held.daemon.client.watch(99, LONG).await else { panic!("watched nothing") };
    assert_eq!(error.code(), Some(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_the_last_status_when_the_daemon_stops() {
    let mut held = Held::start(ask).await;
    let statuses = held.daemon.client.watch(held.id, Duration::from_millis(20)).await.unwrap();
    held.daemon.signal(Signal::SIGTERM);
    let all: Vec<_> = statuses.collect().await;
    let last = all.last().unwrap().as_ref().unwrap();
    assert_eq!((last.state(), tally(last).failed_shutdown), (RequestState::Failed, 1), "{last:?}");
    assert!(held.daemon.ended().await.success());
}
