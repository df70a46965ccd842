//! A CVMFS client that is killed between the pull of an image and the start of its pod.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, with_round_trip};

use crate::support::{READ_ALL, files};

#[test]
fn a_pod_on_a_dead_mount_fails_with_a_reason_until_it_is_mounted() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&files()?).await?;
        let mut node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        let before = node.output(&reference, &READ_ALL).await?;
        node.client.kill()?;
        // The sandbox does not need the mount, but the container does.
        let error: Result<_> = node.run(&reference, &READ_ALL).await;
        let error = error.map_or_else(|error| format!("{error:#}"), |outcome| format!("it ran: {outcome:?}"));
        for part in ["os error 107", "mount the repository again", &node.client.mount_point().display().to_string()] {
            ensure!(error.contains(part), "{part} is not in:\n{error}");
        }
        node.client.restart()?;
        ensure!(node.output(&reference, &READ_ALL).await? == before);
        Ok(())
    });
}
