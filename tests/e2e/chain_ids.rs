//! An image whose configuration has another image's diff IDs must not take that image's chain IDs: containerd shares layers by
//! chain ID, and does not compare the diff ID of a layer that a snapshotter provides.

use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::images::{self, Image, ImageBuilder, Layer};
use testbed::node::{Node, NodeSpec};
use testbed::site::{Site, image_cache, with_round_trip};

const WHO: [&str; 2] = ["/bin/cat", "/who"];

/// busybox with a file that says whose image it is.
fn image_of(name: &str) -> Result<Image> {
    let cache = image_cache()?;
    let base = images::busybox(&cache)?;
    ImageBuilder::from(&base, name, "1")?.layer(|tar| tar.file("who", 0o644, name)).build(&cache)
}

/// An image with the layers of `files`, and the diff IDs of `named` in its configuration.
fn forged(name: &str, files: &Image, named: &Image) -> Result<Image> {
    let layers = files.layers.iter().zip(&named.layers);
    let layers = layers.map(|(files, named)| Layer { diff_id: named.diff_id, ..files.clone() });
    ImageBuilder::of(name, layers).build(&image_cache()?)
}

async fn is_refused(node: &Node, image: &str) -> Result<()> {
    let Err(error) = node.pull(image).await else { anyhow::bail!("{image} was pulled") };
    let text = format!("{error:#}");
    ensure!(text.contains("wrong diff id"), "{text}");
    Ok(())
}

#[test]
fn a_forged_image_is_refused_and_changes_no_other() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let (victim_image, attacker_image) = (image_of("victim")?, image_of("attacker")?);
        let victim = site.publish(&victim_image).await?;
        site.publish(&attacker_image).await?;
        let forged = site.publish_layers(&forged("forged", &attacker_image, &victim_image)?, &[]).await?;
        let node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        is_refused(&node, &forged).await?;
        ensure!(node.output(&victim, &WHO).await? == "victim");
        // containerd now has the chain ID, and takes it for what it is, as with its own snapshotter.
        ensure!(node.output(&forged, &WHO).await? == "victim");
        ensure!(node.snapshotter_log().contains("a chain ID that is not the layer's"), "{}", node.snapshotter_log());
        Ok(())
    });
}

#[test]
fn a_forged_base_does_not_poison_the_images_on_that_base() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let victim_image = image_of("victim")?;
        let victim = site.publish(&victim_image).await?;
        // One layer, which is called as the base of the victim's image is.
        let attack =
            ImageBuilder::new("attack", "1").layer(|tar| tar.file("who", 0o644, "attacker")).build(&image_cache()?)?;
        site.publish(&attack).await?;
        let forged = site.publish_layers(&forged("forged", &attack, &victim_image)?, &[]).await?;
        let node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        is_refused(&node, &forged).await?;
        ensure!(node.output(&victim, &WHO).await? == "victim");
        Ok(())
    });
}

#[test]
fn an_image_that_is_not_published_cannot_be_forged_either() {
    testbed::namespace::test(|| async {
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let (victim_image, attacker_image) = (image_of("victim")?, image_of("attacker")?);
        site.publish(&attacker_image).await?;
        let forged = site.publish_layers(&forged("forged", &attacker_image, &victim_image)?, &[]).await?;
        let victim = site.publish_layers(&victim_image, &victim_image.layers[..1]).await?;
        let node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        is_refused(&node, &forged).await?;
        ensure!(node.output(&victim, &WHO).await? == "victim");
        Ok(())
    });
}
