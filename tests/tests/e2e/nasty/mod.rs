//! Images that stretch what is legal, file by file: mounted from published layers, and unpacked by containerd's own
//! overlayfs snapshotter. What differs is what the publisher of layers drops; docs/snapshotter.md lists it.

mod images;
mod look;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::images::Image;
use testbed::node::{Node, NodeSpec, SNAPSHOTTER};
use testbed::site::{Site, with_round_trip};

use look::{Tree, differences, hard_links, look};

/// The same image on two nodes, as a view and as a container's root.
struct Compared {
    ours: Tree,
    theirs: Tree,
}

async fn compare(image: &Image) -> Result<Compared> {
    let mut site = Site::start("site", with_round_trip(Duration::ZERO)).await?;
    let reference = site.publish(image).await?;
    let ours = Node::start(&site, "ours", NodeSpec { daemon: false, ..NodeSpec::default() }).await?;
    let theirs =
        Node::start(&site, "theirs", NodeSpec { snapshotter: false, daemon: false, ..NodeSpec::default() }).await?;
    let chain_id = image.chain_id().to_string();
    let mut trees = Vec::new();
    for (node, snapshotter) in [(&ours, SNAPSHOTTER), (&theirs, "overlayfs")] {
        node.pull(&reference).await?;
        for writable in [false, true] {
            let key = if writable { "container" } else { "view" };
            let target = node.directory().join(key);
            let mounted = node.containerd.mount_image(snapshotter, &chain_id, key, &target, writable).await?;
            trees.push(look(mounted.path()).with_context(|| format!("the {key} of {snapshotter}"))?);
        }
    }
    let content = ours.containerd.ctr(&["content", "ls", "-q"])?;
    for layer in &image.layers {
        ensure!(!content.contains(&layer.digest.to_string()), "layer {} was not taken from CVMFS", layer.digest);
    }
    trees.iter_mut().for_each(without_the_mounts_own);
    let [our_view, our_container, their_view, their_container] = trees.try_into().expect("four trees");
    same(&without_inodes(&our_view), &without_inodes(&our_container))?;
    same(&without_inodes(&their_view), &without_inodes(&their_container))?;
    Ok(Compared { ours: our_view, theirs: their_view })
}

fn same(one: &Tree, other: &Tree) -> Result<()> {
    let differences = differences(one, other);
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

/// The time of the root directory is that of a directory of the snapshotter's.
fn without_the_mounts_own(tree: &mut Tree) {
    if let Some(root) = tree.get_mut(Path::new("")) {
        root.modified = (0, 0);
    }
}

/// Numbers of inodes are the file system's own.
fn without_inodes(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    tree.values_mut().for_each(|seen| seen.inode = 0);
    tree
}

/// Without what the publisher drops of files.
fn as_published(tree: &Tree) -> Tree {
    let mut tree = without_inodes(tree);
    tree.values_mut().for_each(|seen| seen.attributes.clear());
    tree
}

#[test]
fn every_corner_of_an_image_is_as_with_containerds_own_overlayfs() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::corners()?).await?;
        ensure!(theirs.len() > 200, "nothing to compare: {} paths", theirs.len());
        let longest = theirs.keys().map(|path| path.as_os_str().len()).max();
        ensure!(longest == Some(images::UNPACKABLE), "the longest path has {longest:?} bytes");
        // What the publisher drops: extended attributes, and that names are of one file.
        let capable = Path::new(images::CAPABLE);
        ensure!(theirs[capable].attributes["security.capability"] == images::CAPABILITY);
        ensure!(ours[capable].attributes.is_empty(), "{:?}", ours[capable]);
        ensure!(hard_links(&theirs) == [images::LINKED[2..].iter().map(Path::new).collect::<Vec<_>>()]);
        ensure!(hard_links(&ours).is_empty(), "{:?}", hard_links(&ours));
        same(&without_inodes(&ours), &as_published(&theirs))
    });
}

#[test]
fn one_hundred_and_twenty_seven_layers_are_as_with_containerds_own_overlayfs() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::many_layers()?).await?;
        ensure!(theirs.len() > 80, "nothing to compare: {} paths", theirs.len());
        same(&without_inodes(&ours), &as_published(&theirs))
    });
}

#[test]
fn a_directory_deleted_and_made_anew_in_one_layer_has_only_its_new_files() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::deleted_and_made_anew()?).await?;
        let names = |tree: &Tree| tree.keys().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        ensure!(names(&ours) == " dir dir/new", "{}", names(&ours));
        // containerd's converter of whiteouts forgets the deletion when the directory comes.
        ensure!(names(&theirs) == " dir dir/new dir/old", "{}", names(&theirs));
        Ok(())
    });
}

#[test]
fn directories_that_a_layer_does_not_name_have_the_publishers_attributes() {
    testbed::namespace::test(|| async {
        let Compared { ours, theirs } = compare(&images::unnamed_directories()?).await?;
        let attributes = |tree: &Tree, path: &str| (tree[Path::new(path)].mode & 0o7777, tree[Path::new(path)].owner);
        // containerd takes them from the layer below.
        ensure!(attributes(&theirs, "named") == (0o700, (5, 6)), "{:?}", attributes(&theirs, "named"));
        ensure!(attributes(&ours, "named") == (0o755, (0, 0)), "{:?}", attributes(&ours, "named"));
        // All else is the same, but for the time, which is when the layer was published or unpacked.
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
