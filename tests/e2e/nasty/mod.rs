//! Images with unusual content, compared file by file: mounted from published layers, and unpacked by containerd's own overlayfs
//! snapshotter. They differ only in what the publisher of layers drops; docs/src/snapshotter.md lists it.

mod images;
mod look;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bundles::bundle::Bundle;
use bundles::image::ImageId;
use bundles::object::ObjectKind;
use testbed::images::Image;
use testbed::node::{Node, NodeSpec, SNAPSHOTTER};
use testbed::process::run_command;
use testbed::site::{FQRN, Site, with_round_trip};

use look::{Tree, differences, hard_links, look};

/// The trees of the same image on two nodes.
struct Compared {
    ours: Tree,
    theirs: Tree,
}

async fn compare(image: &Image) -> Result<Compared> {
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let reference = site.publish(image).await?;
    let spec = |snapshotter| NodeSpec { snapshotter, daemon: false, ..NodeSpec::default() };
    let theirs = seen(&Node::start(&site, "theirs", spec(false)).await?, image, &reference).await?;
    let ours = Node::start(&site, "ours", spec(true)).await?;
    let listed = seen(&ours, image, &reference).await?;

    // With the whiteouts from a bundle, the layers need not be scanned, and nothing else differs.
    let bundle = publish_bundle_of_nothing(&mut site, image, &reference)?;
    ensure!(bundle.layers.len() == distinct_layers(image), "the bundle has {} layers", bundle.layers.len());
    let node = Node::start(&site, "bundled", spec(true)).await?;
    site.origin.take_requests();
    node.pull(&reference).await?;
    let requested: Vec<String> = site.origin.take_requests().into_iter().map(|request| request.path).collect();
    for catalog in bundle.objects.iter().filter(|object| object.kind == ObjectKind::Catalog) {
        let name = catalog.hash.to_string()[2..].to_owned();
        ensure!(
            !requested.iter().any(|path| path.contains(&name)),
            "the catalog {} was fetched by the pull",
            catalog.path
        );
    }
    let from_bundle = seen(&node, image, &reference).await?;
    same(&without_inodes(&listed), &without_inodes(&from_bundle)).context("by the bundle")?;
    Ok(Compared { ours: listed, theirs })
}

/// Builds and publishes a bundle without objects.
fn publish_bundle_of_nothing(site: &mut Site, image: &Image, reference: &str) -> Result<Bundle> {
    let file = site.directory.subdirectory("nothing")?.join("nothing.bundle");
    let id = ImageId { chain_id: image.chain_id(), manifest: None, reference: reference.to_owned() };
    Bundle::new(id, FQRN).write(&file)?;
    run_command(site.builder("rebase")?.arg(&file).args(["--image", reference, "--output"]).arg(&file))?;
    site.publish_bundle(&file)?;
    Ok(Bundle::read(&file)?)
}

fn distinct_layers(image: &Image) -> usize {
    image.layers.iter().map(|layer| layer.digest).collect::<BTreeSet<_>>().len()
}

/// The image's tree on a node, which must be the same in a view and in a container's root.
async fn seen(node: &Node, image: &Image, reference: &str) -> Result<Tree> {
    let snapshotter = if node.snapshotter.is_some() { SNAPSHOTTER } else { "overlayfs" };
    node.pull(reference).await?;
    let mut trees = Vec::new();
    for (key, writable) in [("view", false), ("container", true)] {
        let target = node.directory().join(key);
        let chain_id = image.chain_id().to_string();
        let mounted = node.containerd.mount_image(snapshotter, &chain_id, key, &target, writable).await?;
        let mut tree = look(mounted.path()).with_context(|| format!("the {key} of {snapshotter}"))?;
        without_the_mounts_own(&mut tree);
        trees.push(tree);
    }
    let content = node.containerd.ctr(&["content", "ls", "-q"])?;
    for layer in &image.layers {
        let unpacked = content.contains(&layer.digest.to_string());
        ensure!(unpacked == node.snapshotter.is_none(), "layer {} has another origin than expected", layer.digest);
    }
    let [view, container] = trees.try_into().expect("two trees");
    same(&without_inodes(&view), &without_inodes(&container))?;
    Ok(view)
}

fn same(one: &Tree, other: &Tree) -> Result<()> {
    let differences = differences(one, other);
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

/// Removes the time of the root directory, which depends on the snapshotter.
fn without_the_mounts_own(tree: &mut Tree) {
    if let Some(root) = tree.get_mut(Path::new("")) {
        root.modified = (0, 0);
    }
}

/// Removes inode numbers, which depend on the file system.
fn without_inodes(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    tree.values_mut().for_each(|seen| seen.inode = 0);
    tree
}

/// Removes what the publisher drops.
fn as_published(tree: &Tree) -> Tree {
    let mut tree = without_inodes(tree);
    tree.values_mut().for_each(|seen| seen.attributes.clear());
    tree
}

#[test]
fn every_corner_of_an_image_equals_containerds_overlayfs() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::corners()?).await?;
        ensure!(theirs.len() > 200, "nothing to compare: {} paths", theirs.len());
        let longest = theirs.keys().map(|path| path.as_os_str().len()).max();
        ensure!(longest == Some(images::UNPACKABLE), "the longest path has {longest:?} bytes");
        // The publisher drops extended attributes and hard links.
        let capable = Path::new(images::CAPABLE);
        ensure!(theirs[capable].attributes["security.capability"] == images::CAPABILITY);
        ensure!(ours[capable].attributes.is_empty(), "{:?}", ours[capable]);
        ensure!(hard_links(&theirs) == [images::LINKED[2..].iter().map(Path::new).collect::<Vec<_>>()]);
        ensure!(hard_links(&ours).is_empty(), "{:?}", hard_links(&ours));
        same(&without_inodes(&ours), &as_published(&theirs))
    });
}

#[test]
fn an_image_of_127_layers_equals_containerds_overlayfs() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::many_layers()?).await?;
        ensure!(theirs.len() > 80, "nothing to compare: {} paths", theirs.len());
        same(&without_inodes(&ours), &as_published(&theirs))
    });
}

#[test]
fn a_directory_replaced_within_a_layer_has_only_its_new_files() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::deleted_and_made_anew()?).await?;
        let names = |tree: &Tree| tree.keys().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        ensure!(names(&ours) == " dir dir/new", "{}", names(&ours));
        // containerd's conversion of whiteouts loses the deletion when the directory follows.
        ensure!(names(&theirs) == " dir dir/new dir/old", "{}", names(&theirs));
        Ok(())
    });
}

#[test]
fn directories_missing_in_a_layer_have_the_publishers_attributes() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::unnamed_directories()?).await?;
        let attributes = |tree: &Tree, path: &str| (tree[Path::new(path)].mode & 0o7777, tree[Path::new(path)].owner);
        // containerd copies them from the layer below.
        ensure!(attributes(&theirs, "named") == (0o700, (5, 6)), "{:?}", attributes(&theirs, "named"));
        ensure!(attributes(&ours, "named") == (0o755, (0, 0)), "{:?}", attributes(&ours, "named"));
        // Everything else is the same, except for the time of publishing or unpacking.
        let without = |mut tree: Tree| {
            tree.remove(Path::new("named"));
            tree.entry("new".into()).and_modify(|seen| seen.modified = (0, 0));
            without_inodes(&tree)
        };
        ensure!(theirs.len() == 6, "{theirs:?}");
        same(&without(ours), &without(theirs))
    });
}

#[test]
fn a_path_that_containerd_could_not_unpack_can_be_mounted() {
    testbed::namespace::test(|| async {
        let image = images::longest_path()?;
        let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
        let reference = site.publish(&image).await?;
        let node = Node::start(&site, "node", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
        node.pull(&reference).await?;
        let target = node.directory().join("view");
        let chain_id = image.chain_id().to_string();
        let mounted = node.containerd.mount_image(SNAPSHOTTER, &chain_id, "view", &target, false).await?;
        let tree = look(mounted.path())?;
        let longest = tree.keys().max_by_key(|path| path.as_os_str().len()).context("nothing there")?;
        ensure!(longest.as_os_str().len() == 4000 && tree[longest].size == "deep down".len() as u64);
        Ok(())
    });
}
