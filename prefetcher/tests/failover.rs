//! Proxies and servers that die, refuse, stall or answer rubbish: the next one is used within the same request.

#![allow(clippy::unwrap_used)]

mod site;

use api::proto::{RequestState, RequestStatus};

use site::{Behaviour, Daemon, Object, Origin, Site, bundle, objects, tally};

/// What is wrong with a proxy, and what it does when an object is requested.
type Case<'a> = (&'a str, &'a dyn Fn(&Object) -> Behaviour);

/// What a request ends like whose client has these proxies before the server `behind`.
async fn through(proxies: &str, behind: &Origin, wanted: &[Object], more: &str) -> (Site, RequestStatus) {
    let mut site = Site::new();
    site.proxy = Some(proxies.to_owned());
    let image = bundle("image", wanted);
    site.publish(&image);
    let daemon = Daemon::start_with(&site, &[behind], more).await;
    let status = daemon.prefetch_bundle(&image).await;
    assert!(site.temporary_files().is_empty());
    (site, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_failure_of_a_proxy_is_followed_by_the_next_proxy() {
    let wanted = objects(30, 20);
    let page = b"<html>Please log in to use the guest network</html>";
    let cut = |o: &Object| Behaviour::Cut(o.stored.clone(), o.stored.len() / 2);
    let cases: [Case<'_>; 6] = [
        ("dies in the middle of a body", &cut),
        ("lets nobody through", &|_| Behaviour::Status(403, "Access denied")),
        ("wants a log-in", &|_| Behaviour::Status(407, "")),
        ("sends elsewhere", &|_| Behaviour::Status(302, "")),
        ("is a captive portal", &|_| Behaviour::Send(page.to_vec())),
        ("stalls", &|o| Behaviour::Hold(o.stored.clone())),
    ];
    for (what, behaviour) in cases {
        let (bad, good, behind) = (Origin::start([]).await, Origin::start(&wanted).await, Origin::start(&wanted).await);
        for object in &wanted {
            bad.set(object, behaviour(object));
        }
        let proxies = format!("{};{}", bad.proxy(), good.proxy());
        let (site, status) = through(&proxies, &behind, &wanted, "timeout = \"1s\"").await;
        assert_eq!(status.state(), RequestState::Done, "{what}: {status:?}");
        site.assert_cached(&wanted);
        assert_eq!((good.requests(), behind.requests()), (20, 0), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_connections_replace_dead_proxies_only_if_configured() {
    let wanted = objects(31, 10);
    let (one, two) = (Origin::dead().await, Origin::dead().await);
    let behind = Origin::start(&wanted).await;
    let group = format!("{}|{}", one.proxy(), two.proxy());
    let (site, status) = through(&format!("{group};DIRECT"), &behind, &wanted, "").await;
    assert_eq!((status.state(), behind.requests()), (RequestState::Done, 10), "{status:?}");
    site.assert_cached(&wanted);
    let (_, status) = through(&group, &behind, &wanted, "").await;
    assert_eq!((status.state(), tally(&status).failed_transfer), (RequestState::Failed, 10), "{status:?}");
    assert_eq!(behind.requests(), 10, "farms must not go past their proxies");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_in_a_proxy_are_fetched_again_past_its_cache() {
    let wanted = objects(32, 5);
    let proxy = Origin::start(&wanted).await;
    let mut kept = wanted[0].stored.clone();
    kept[20] ^= 1;
    proxy.set(&wanted[0], Behaviour::Stale(kept, wanted[0].stored.clone()));
    let behind = Origin::start(&wanted).await;
    let (site, status) = through(&proxy.proxy(), &behind, &wanted, "").await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!((proxy.requests_for(&wanted[0]), behind.requests()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_a_byte_per_second_fails() {
    let site = Site::new();
    let wanted = objects(33, 4);
    let (slow, good) = (Origin::start(&wanted).await, Origin::start(&wanted).await);
    slow.set(&wanted[1], Behaviour::Trickle(wanted[1].stored.clone()));
    let image = bundle("image", &wanted);
    site.publish(&image);
    let daemon = Daemon::start_with(&site, &[&slow, &good], "timeout = \"2s\"").await;
    let status = daemon.prefetch_bundle(&image).await;
    assert_eq!(status.state(), RequestState::Done, "{status:?}");
    site.assert_cached(&wanted);
    assert_eq!(good.requests_for(&wanted[1]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_by_its_ipv6_address() {
    let site = Site::new();
    let wanted = objects(34, 3);
    let origin = Origin::start_at("[::1]:0", &wanted).await;
    let image = bundle("image", &wanted);
    site.publish(&image);
    let daemon = Daemon::start(&site, &[&origin]).await;
    assert_eq!(daemon.prefetch_bundle(&image).await.state(), RequestState::Done);
    assert_eq!(origin.requests(), 3);
}
