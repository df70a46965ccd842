#![allow(clippy::unwrap_used)]
use std::time::Duration;

use api::proto::{Image, PrefetchRequest, Priority};
use bundles::bundle::{Bundle, BundleObject, ObjectIndex};
use bundles::image::{ChainId, Digest, ImageId};
use bundles::object::ContentHash;
use bundles::path::RootPath;

use super::tally::{Count, Outcome, SkipCause};
use super::*;
use crate::bundle_memory::HeldBundle;

fn indices<const N: usize>(indices: [u32; N]) -> [ObjectIndex; N] {
    indices.map(ObjectIndex::new)
}

fn image(name: &str) -> Image {
    Image { chain_id: Digest::sha256(name.as_bytes()).to_string(), ..Image::default() }
}

fn asked(name: &str) -> PrefetchSpec {
    PrefetchSpec::from_api(PrefetchRequest { image: Some(image(name)), ..PrefetchRequest::default() }, None).unwrap()
}

fn new(requests: &Arc<Requests>, asked: &PrefetchSpec) -> Running {
    match requests.admit(asked).unwrap() {
        Admitted::New(running) => running,
        Admitted::Joined(request) => panic!("{asked:?} joined {}", request.id),
    }
}

fn bundle(objects: u8) -> Bundle {
    let id = ImageId { chain_id: ChainId(Digest::sha256(b"a")), manifest: None, reference: String::new() };
    let mut bundle = Bundle::new(id, "unpacked.test.example");
    for name in 0..objects {
        let hash = ContentHash::sha1([name; 20]);
        bundle.objects.push(BundleObject::file(hash, 10, RootPath::new("/x").unwrap()));
    }
    bundle
}

#[tokio::test]
async fn a_running_request_is_joined_and_an_ended_one_is_not() {
    let requests = Requests::new(2, 2);
    let first = new(&requests, &asked("a"));
    let id = first.request().id;
    assert!(matches!(requests.admit(&asked("a")).unwrap(), Admitted::Joined(joined) if joined.id == id));
    let waiting = requests.get(id).unwrap();
    let waiter = tokio::spawn(async move { waiting.ended().await });
    first.request().error("one");
    first.request().error("two");
    first.end(RequestState::NoBundle);
    let status = waiter.await.unwrap();
    assert_eq!((status.state(), status.error.as_str()), (RequestState::NoBundle, "one"));
    assert_ne!(new(&requests, &asked("a")).request().id, id);
}

#[test]
fn running_and_remembered_requests_are_bounded() {
    let requests = Requests::new(2, 3);
    let held = [new(&requests, &asked("a")), new(&requests, &asked("b"))];
    assert!(requests.admit(&asked("c")).unwrap_err().to_string().contains("ask again later"));
    drop(held);
    for name in ["d", "e"] {
        new(&requests, &asked(name)).end(RequestState::Done);
    }
    let known: Vec<u64> = requests.list().iter().map(|r| r.request_id).collect();
    assert_eq!(known, [4, 3, 2]);
    assert!(requests.get(1).is_none());
}

#[test]
fn a_dropped_request_has_failed() {
    let requests = Requests::new(1, 1);
    let running = new(&requests, &asked("a"));
    let id = running.request().id;
    let bundle = bundle(5);
    running.request().found("store", &bundle, &bundle.plan(None));
    running.request().record_all(&indices([0, 1]), Outcome::Fetched);
    drop(running);
    let status = requests.get(id).unwrap().status();
    assert_eq!(status.state(), RequestState::Failed);
    assert!(status.error.contains("stopped"));
    let tally = status.tally.unwrap();
    assert_eq!((tally.failed_objects, tally.failed_shutdown), (3, 3));
}

#[test]
fn a_joined_request_has_the_higher_priority_and_the_later_deadline() {
    let requests = Requests::new(2, 1);
    let with = |priority, seconds: u64| PrefetchSpec {
        priority,
        deadline: (seconds > 0).then(|| Duration::from_secs(seconds)),
        ..asked("a")
    };
    let running = new(&requests, &with(Priority::Low, 100));
    for (priority, seconds, expected, least_ms, most_ms) in [
        (Priority::High, 50, Priority::High, 100_000, 100_000),
        (Priority::Normal, 200, Priority::High, 200_000, 201_000),
        (Priority::Normal, 0, Priority::High, 0, 0),
        (Priority::Normal, 10, Priority::High, 0, 0),
    ] {
        assert!(matches!(requests.admit(&with(priority, seconds)).unwrap(), Admitted::Joined(_)));
        let status = running.request().status();
        assert_eq!(status.priority(), expected);
        assert!((least_ms..=most_ms).contains(&status.deadline_ms), "{status:?}");
    }
    assert_eq!(running.request().status().joined_calls, 4);
    // Not joined: one that is to end, and one with a bundle of its own.
    let own = new(&requests, &PrefetchSpec { bundle: Some(HeldBundle::for_test(bundle(1))), ..asked("a") });
    own.end(RequestState::Done);
    running.request().cancel();
    new(&requests, &asked("a")).end(RequestState::Done);
}

#[tokio::test]
async fn a_postponed_deadline_passes_later() {
    let requests = Requests::new(1, 1);
    let within = |ms| PrefetchSpec { deadline: Some(Duration::from_millis(ms)), ..asked("a") };
    let running = new(&requests, &within(50));
    let request = running.request().clone();
    let given_up = tokio::spawn(async move { request.given_up().await });
    tokio::task::yield_now().await;
    requests.admit(&within(60_000)).unwrap();
    // Three times the first deadline: nothing may happen.
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!given_up.is_finished());
    running.request().cancel();
    assert_eq!(given_up.await.unwrap(), RequestState::Cancelled);
}

#[tokio::test]
async fn critical_objects_are_ready_when_all_are_in_the_cache() {
    let requests = Requests::new(3, 3);
    for (outcome, arrival, is_ready) in [
        (Outcome::Joined, Arrival::LastCritical, true),
        (Outcome::Failed(FailureCause::Transfer), Arrival::Other, false),
        (Outcome::Skipped(SkipCause::CacheFull), Arrival::Other, false),
    ] {
        let running = new(&requests, &asked("a"));
        let request = running.request();
        assert!(!request.critical(Duration::ZERO).await, "nothing is known yet");
        let [a, b, c] = indices([0, 1, 2]);
        let fetched = |index| request.record(index, Outcome::Fetched, Count::ONE);
        request.found("store", &bundle(3), &[a, b, c]);
        request.record_all(&[c], Outcome::Skipped(SkipCause::Repository));
        assert_eq!(fetched(c), Arrival::Other);
        assert_eq!(fetched(a), Arrival::Critical);
        assert_eq!(fetched(a), Arrival::Other, "once");
        assert!(!request.critical(Duration::from_millis(1)).await);
        assert_eq!(request.record(b, outcome, Count::ONE), arrival);
        assert_eq!(request.critical(Duration::from_secs(60)).await, is_ready);
        let tally = request.tally();
        assert_eq!((tally.critical_objects, tally.time_to_critical.is_some()), (2, is_ready));
        running.end(RequestState::Done);
    }
}

#[test]
fn totals_never_shrink_and_include_forgotten_requests() {
    let requests = Requests::new(2, 1);
    for name in ["a", "b", "c"] {
        let running = new(&requests, &asked(name));
        running.request().record(ObjectIndex::new(0), Outcome::Fetched, Count::objects(2));
        let while_running = requests.totals();
        running.end(RequestState::Done);
        assert_eq!((while_running.running, requests.totals().running), (1, 0));
        assert_eq!(while_running.tally, requests.totals().tally);
    }
    let totals = requests.totals();
    assert_eq!((totals.tally.count(Outcome::Fetched).objects, totals.ended[&RequestState::Done]), (6, 3));
}

#[test]
fn a_dropped_request_counts_every_object_once() {
    let requests = Requests::new(1, 1);
    let running = new(&requests, &asked("a"));
    let (request, bundle) = (running.request().clone(), bundle(6));
    request.found("store", &bundle, &bundle.plan(None));
    request.record_all(&indices([0]), Outcome::Skipped(SkipCause::Repository));
    request.record_all(&indices([1, 2]), Outcome::Skipped(SkipCause::CacheFull));
    request.record_all(&indices([3]), Outcome::Fetched);
    drop(running);
    let tally = request.status().tally.unwrap();
    assert_eq!((tally.skipped_objects, tally.skipped_cache_full_objects, tally.fetched_objects), (3, 2, 1));
    assert_eq!((tally.failed_objects, tally.failed_shutdown), (2, 2));
    assert_eq!(requests.totals().tally.count(Outcome::Skipped(SkipCause::CacheFull)).objects, 2);
}

#[test]
fn a_call_without_a_limit_lifts_the_limit() {
    let requests = Requests::new(1, 1);
    let with = |limit| PrefetchSpec { bytes_per_second: limit, ..asked("a") };
    let running = new(&requests, &with(Some(2000)));
    for (limit, expected) in [(Some(1500), 2000), (Some(3000), 3000), (None, 0), (Some(5000), 0)] {
        assert!(matches!(requests.admit(&with(limit)).unwrap(), Admitted::Joined(_)));
        assert_eq!(running.request().status().bytes_per_second, expected, "{limit:?}");
    }
}
