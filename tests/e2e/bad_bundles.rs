//! Bundles that cannot be used: said clearly, and the start goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::publish::bundle_path;
use prefetcher::api::RequestState;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, label, with_round_trip};

use crate::support::{READ_ALL, asked, files, publish_bundle};

/// Publishes a bundle spoilt by `spoil`; a node must say `message` and start the pod all the same.
async fn start_with(spoil: impl Fn(&mut Vec<u8>), message: &str) -> Result<()> {
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
    spoil(&mut bytes);
    std::fs::write(&file, bytes)?;
    site.put_bundles(&tree)?;

    let second = Node::start(&site, "second", NodeSpec::default()).await?;
    site.origin.take_requests();
    ensure!(second.output(&reference, &READ_ALL).await? == output);
    let requests = second.prefetched().await?;
    ensure!(!requests.is_empty());
    for request in &requests {
        ensure!(request.state() == RequestState::Failed && request.error.contains(message), "{request:?}");
    }
    ensure!(asked(&site, label::DAEMON).is_empty(), "something was fetched by a bundle that cannot be read");
    let log = second.daemon.as_ref().context("the daemon runs")?.log();
    ensure!(log.contains(message), "the log does not say it:\n{log}");
    Ok(())
}

#[test]
fn a_truncated_bundle_is_told_and_the_pod_starts() {
    testbed::namespace::test(|| start_with(|bytes| bytes.truncate(bytes.len() / 2), "truncated"));
}

#[test]
fn a_bundle_of_a_newer_version_is_told_and_the_pod_starts() {
    testbed::namespace::test(|| start_with(|bytes| bytes[4] = 9, "upgrade cvmfs-prefetch"));
}
