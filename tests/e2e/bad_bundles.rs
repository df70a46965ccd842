//! Unusable bundles are reported, and containers start without them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::proto::RequestState;
use bundles::layout::bundle_path;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, label, with_round_trip};

use crate::support::{READ_ALL, files, publish_bundle, requested_paths};

/// Publishes a bundle changed by `damage`; a node must log `message` and start the pod nevertheless.
async fn start_with(damage: impl Fn(&mut Vec<u8>), message: &str) -> Result<()> {
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let image = files()?;
    let reference = site.publish(&image).await?;
    let first = Node::start(&site, "first", NodeSpec::default()).await?;
    let output = first.output(&reference, &READ_ALL).await?;
    publish_bundle(&mut site, &first, &reference, &READ_ALL)?;
    drop(first);
    let tree = site.directory.path().join("tree");
    let file = tree.join(bundle_path(&image.chain_id()));
    let mut bytes = std::fs::read(&file)?;
    damage(&mut bytes);
    std::fs::write(&file, bytes)?;
    site.put_bundles(&tree)?;

    let second = Node::start(&site, "second", NodeSpec::default()).await?;
    site.origin.take_requests();
    ensure!(second.output(&reference, &READ_ALL).await? == output);
    let requests = second.wait_for_prefetch(&reference).await?;
    ensure!(!requests.is_empty());
    for request in &requests {
        ensure!(request.state() == RequestState::Failed && request.error.contains(message), "{request:?}");
    }
    ensure!(requested_paths(&site, label::DAEMON).is_empty(), "objects of an unreadable bundle were fetched");
    let log = second.daemon.as_ref().context("the daemon runs")?.log();
    ensure!(log.contains(message), "no such message in the log:\n{log}");
    Ok(())
}

#[test]
fn a_truncated_bundle_is_reported_and_the_pod_starts() {
    testbed::namespace::test(|| start_with(|bytes| bytes.truncate(bytes.len() / 2), "truncated"));
}

#[test]
fn a_bundle_of_a_newer_version_is_reported_and_the_pod_starts() {
    testbed::namespace::test(|| start_with(|bytes| bytes[4] = 9, "upgrade cvmfs-prefetch"));
}
