//! Images with only some of their layers in the repository.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, with_round_trip};

use crate::support::{READ_ALL, files};

/// Runs an image with all but its top layer (`lower`), or only its top layer, in the repository.
async fn start_with(name: &str, lower: bool) -> Result<()> {
    let mut site = Site::start(name, with_round_trip(Duration::ZERO)).await?;
    let image = files()?;
    let cut = image.layers.len() - 1;
    let (below, above) = image.layers.split_at(cut);
    let (published, unpacked) = if lower { (below, above) } else { (above, below) };
    let reference = site.publish_layers(&image, published).await?;
    let ours = Node::start(&site, "ours", NodeSpec::default()).await?;
    let theirs =
        Node::start(&site, "theirs", NodeSpec { snapshotter: false, daemon: false, ..NodeSpec::default() }).await?;
    ensure!(ours.output(&reference, &READ_ALL).await? == theirs.output(&reference, &READ_ALL).await?);
    let content = ours.containerd.ctr(&["content", "ls", "-q"])?;
    // containerd downloads all layers above the first one that it must unpack, even if they are published.
    for layer in published.iter().filter(|_| lower) {
        ensure!(!content.contains(&layer.digest.to_string()), "a published layer was downloaded");
    }
    for layer in unpacked {
        ensure!(content.contains(&layer.digest.to_string()), "an unpublished layer was not downloaded");
    }
    Ok(())
}

#[test]
fn a_pod_starts_when_only_its_lower_layers_are_in_cvmfs() {
    testbed::namespace::test(|| start_with("site", true));
}

#[test]
fn a_pod_starts_when_only_its_top_layer_is_in_cvmfs() {
    testbed::namespace::test(|| start_with("site", false));
}
