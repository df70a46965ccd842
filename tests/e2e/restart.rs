//! Restarts and removals while images and containers exist.

use std::time::Duration;

use anyhow::ensure;
use testbed::images;
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, image_cache, with_round_trip};

use crate::support::{READ_ALL, files};

#[test]
fn a_pod_starts_if_the_snapshotter_restarts_after_the_pull() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let mut node = Node::start(&site, "node", NodeSpec::default()).await?;
        node.pull(&reference).await?;
        let before = node.containerd.ctr(&["snapshots", "--snapshotter", testbed::node::SNAPSHOTTER, "ls"])?;
        node.restart_snapshotter()?;
        let after = node.containerd.ctr(&["snapshots", "--snapshotter", testbed::node::SNAPSHOTTER, "ls"])?;
        ensure!(before == after && before.lines().count() > 2, "before:\n{before}\nafter:\n{after}");
        let whole = node.output(&reference, &READ_ALL).await?;
        ensure!(whole == node.output(&reference, &READ_ALL).await?);
        Ok(())
    });
}

#[test]
fn a_removed_image_leaves_no_layer_and_can_be_pulled_again() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = images::whiteouts(&image_cache()?)?;
        // Two layers come from CVMFS, the others are unpacked.
        let reference = site.publish_layers(&image, &image.layers[..2]).await?;
        let node = Node::start(&site, "node", NodeSpec::default()).await?;
        let command = ["/bin/sh", "-c", "cat /srv/kept"];
        let output = node.output(&reference, &command).await?;
        let mut cri = node.containerd.cri().await?;
        cri.remove_image(&reference).await?;
        // containerd's garbage collection removes the layers of this image, but not the sandbox image's.
        let chain = image.chain_id().to_string();
        let listed = || node.containerd.ctr(&["snapshots", "--snapshotter", testbed::node::SNAPSHOTTER, "ls"]);
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while listed()?.contains(&chain) {
            ensure!(std::time::Instant::now() < end, "the snapshots stay:\n{}", listed()?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(node.output(&reference, &command).await? == output);
        Ok(())
    });
}
