//! The whole chain, with the requests of each step counted: record, build, publish, prefetch, start.

use std::time::Duration;

use anyhow::{Result, ensure};
use api::proto::RequestState;
use bundles::object::ObjectKind;
use testbed::images::{self, PYTHON_COMMAND};
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, image_cache, label, with_round_trip};

use crate::support::{check_cache, publish_bundle, requested_paths};

#[test]
fn a_prefetched_python_needs_no_request() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = images::python(&image_cache()?)?;
        let reference = site.publish(&image).await?;

        let first = Node::start(&site, "first", NodeSpec::default()).await?;
        site.origin.take_requests();
        let output = first.output(&reference, &PYTHON_COMMAND).await?;
        let cold = requested_paths(&site, label::CLIENT);
        ensure!(cold.len() > 500, "only {} objects on a cold start", cold.len());
        ensure!(requested_paths(&site, label::DAEMON).is_empty(), "there was no bundle to prefetch");
        let none = first.wait_for_prefetch(&reference).await?;
        ensure!(none.iter().all(|request| request.state() == RequestState::NoBundle), "{none:?}");
        let bundle = publish_bundle(&mut site, &first, &reference, &PYTHON_COMMAND)?;
        drop(first);

        ensure!(bundle.image.chain_id == image.chain_id());
        ensure!(bundle.image.manifest == Some(image.manifest_digest()));
        let metadata = image.layers.iter().map(|layer| Ok(site.repository.layer_metadata(layer)?.to_string()));
        let metadata = metadata.collect::<Result<Vec<_>>>()?;
        for object in cold.keys().filter(|path| path.starts_with("data/")) {
            let hex: String = object.trim_start_matches("data/").chars().filter(|c| *c != '/').collect();
            let listed = bundle.objects.iter().any(|o| hex.starts_with(&o.hash.to_string()));
            // Upper catalogs, history and certificate belong to the mount, not to the image. The pull reads the layers' diff IDs.
            let is_of_no_file = hex.ends_with(['C', 'H', 'X']) || metadata.contains(&hex);
            ensure!(listed || is_of_no_file, "{object} was needed but is not in the bundle");
        }

        let second = Node::start(&site, "second", NodeSpec::default()).await?;
        site.origin.take_requests();
        second.pull(&reference).await?;
        let requests = second.wait_for_prefetch(&reference).await?;
        ensure!(requests.len() == 1 && requests[0].state() == RequestState::Done, "{requests:?}");
        let tally = requests[0].tally.unwrap_or_default();
        let (fetched, present) = (tally.fetched_objects, tally.cached_objects);
        ensure!(fetched + present == bundle.objects.len() as u64 && tally.failed_objects == 0, "{tally:?}");
        // The snapshotter reads the layers at the same time, so their catalogs may be fetched by the client.
        ensure!(present <= image.layers.len() as u64, "{tally:?}");
        let daemon = requested_paths(&site, label::DAEMON);
        ensure!(daemon.len() as u64 == fetched && daemon.values().all(|times| *times == 1), "{daemon:?}");
        for object in bundle.objects.iter().filter(|object| object.kind != ObjectKind::Catalog) {
            ensure!(daemon.contains_key(&object.hash.url_path(object.kind)), "{object:?} was not fetched");
        }
        let client = requested_paths(&site, label::CLIENT);
        ensure!(client.len() < 15 + metadata.len(), "the client requested {client:?} during the pull");
        ensure!(check_cache(&site, &second)? >= bundle.objects.len());

        site.origin.take_requests();
        ensure!(second.output(&reference, &PYTHON_COMMAND).await? == output, "the output differs with prefetch");
        second.wait_for_prefetch(&reference).await?;
        let (client, daemon) = (requested_paths(&site, label::CLIENT), requested_paths(&site, label::DAEMON));
        ensure!(client.is_empty() && daemon.is_empty(), "the start requested {client:?} and {daemon:?}");
        Ok(())
    });
}

#[test]
fn a_prefetched_start_behind_a_squid_needs_no_request() {
    testbed::namespace::test(|| async {
        let spec = testbed::site::SiteSpec { squid: true, ..with_round_trip(Duration::from_millis(1)) };
        let mut site = Site::start("site", spec).await?;
        let image = crate::support::files()?;
        let reference = site.publish(&image).await?;
        // Not through the squid, which may keep the manifest of the first revision for its time to live.
        let first = Node::start(&site, "first", NodeSpec { proxy: false, ..NodeSpec::default() }).await?;
        let bundle = publish_bundle(&mut site, &first, &reference, &crate::support::READ_ALL)?;
        drop(first);

        let second = Node::start(&site, "second", NodeSpec::default()).await?;
        second.pull(&reference).await?;
        let requests = second.wait_for_prefetch(&reference).await?;
        ensure!(requests.iter().all(|request| request.state() == RequestState::Done), "{requests:?}");
        ensure!(check_cache(&site, &second)? >= bundle.objects.len());
        site.origin.take_requests();
        second.output(&reference, &crate::support::READ_ALL).await?;
        ensure!(requested_paths(&site, label::CLIENT).is_empty());
        Ok(())
    });
}
