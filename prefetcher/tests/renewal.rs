//! A repository with a new revision: images that were asked for here, and have another bundle now, are brought again.

#![allow(clippy::unwrap_used)]

mod site;

use api::proto::{Priority, RequestState, RequestStatus};

use site::{Daemon, Origin, Site, bundle, objects, tally};

const RENEWAL: &str = "renewal";

/// The attributes that a CVMFS client sets on its mount.
fn set_revision(site: &Site, revision: &str) {
    xattr::set(site.mount(), "user.revision", revision.as_bytes()).unwrap();
}

/// The renewals, once there are `count` and all have ended; the newest first.
async fn renewals(daemon: &Daemon, count: usize) -> Vec<RequestStatus> {
    loop {
        let mut requests = daemon.client.list().await.unwrap().requests;
        requests.retain(|request| request.correlation_id == RENEWAL);
        if requests.len() >= count && requests.iter().all(|request| request.state() != RequestState::Running) {
            return requests;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_revision_renews_the_bundles_of_used_images() {
    let (site, wanted) = (Site::new(), objects(1, 9));
    let origin = Origin::start(&wanted).await;
    let (same, unused) = (bundle("same", &wanted[..1]), bundle("unused", &wanted[8..]));
    let changing = |objects: usize| bundle("changing", &wanted[1..1 + objects]);
    [&same, &changing(2)].into_iter().for_each(|bundle| _ = site.publish(bundle));
    set_revision(&site, "7");
    let daemon = Daemon::start_with(&site, &[&origin], "revision_check_interval = \"1s\"").await;
    for bundle in [&same, &changing(2)] {
        assert_eq!(daemon.prefetch_bundle(bundle).await.state(), RequestState::Done);
    }
    for (revision, objects, renewed) in [("8", 4, 1), ("9", 7, 2)] {
        site.publish(&changing(objects));
        site.publish(&unused);
        set_revision(&site, revision);
        let all = tokio::time::timeout(site::LONG, renewals(&daemon, renewed)).await.unwrap();
        let status = &all[0];
        // One for each revision: nothing of what is the same, or of what nobody asked for.
        assert_eq!((all.len(), status.state(), status.priority()), (renewed, RequestState::Done, Priority::Low));
        assert_eq!(status.image.as_ref().unwrap().chain_id, changing(objects).image.chain_id.to_string());
        assert_eq!(tally(status).total_objects, objects as u64, "{status:?}");
        site.assert_cached(&wanted[..1 + objects]);
    }
    assert_eq!(origin.requests_for(&wanted[8]), 0, "nobody uses this image here");
}
