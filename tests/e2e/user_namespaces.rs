//! Containers in user namespaces on published layers.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::node::{Node, NodeSpec, SNAPSHOTTER};
use testbed::site::{Site, with_round_trip};

use crate::support::{READ_ALL, files};

/// `ctr run` in a user namespace. The container stays, which protects its snapshot from garbage collection.
const RUN: [&str; 7] = ["run", "--snapshotter", SNAPSHOTTER, "--uidmap", "0:1000:65536", "--gidmap", "0:2000:65536"];

#[test]
fn a_container_in_a_user_namespace_gets_files_with_shifted_owners() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let image = files()?;
        let reference = site.publish(&image).await?;
        let node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        node.pull(&reference).await?;
        let run = |options: &[&str], id: &str| -> Result<String> {
            let look = "stat -c '%u %g' /data/000 /bin/busybox && touch /data/000 && cat /data/* | sha1sum";
            let command = [&RUN[..], options, &[&reference, id, "/bin/sh", "-c", look]].concat();
            node.containerd.ctr(&command)
        };
        // With labels only, this containerd leaves the shifting to the snapshotter.
        let refused =
            run(&["--remap-labels"], "by-labels").map_or_else(|error| format!("{error:#}"), |_| String::new());
        ensure!(refused.contains("cannot shift the owners of files"), "{refused:?}");
        // Here containerd shifts.
        let output = run(&[], "shifted")?;
        let content = node.output(&reference, &READ_ALL).await?;
        ensure!(output == format!("0 0\n0 0\n{content}"), "{output:?}, not {content:?}");
        let parent = format!("{}-1000-2000", image.chain_id());
        let target = node.directory().join("shifted");
        let mounted = node.containerd.mount_image(SNAPSHOTTER, &parent, "shifted-view", &target, false).await?;
        for path in ["", "bin/busybox", "data", "data/000"] {
            let metadata = std::fs::symlink_metadata(mounted.path().join(path))?;
            ensure!((metadata.uid(), metadata.gid()) == (1000, 2000), "{path}: {metadata:?}");
        }
        Ok(())
    });
}
