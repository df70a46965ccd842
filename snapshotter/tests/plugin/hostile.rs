//! Trees that a pod or an image can make to hurt the node.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::layers::{Layer, Pull, layer};
use crate::mounted::Mounted;
use crate::process::Snapshotter;

/// Makes `depth` directories in each other; a path to the last one would be too long. Returns the last one.
fn make_deep(root: &Path, depth: usize) -> OwnedFd {
    let open = |parent: &OwnedFd| openat(parent, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut directory = openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&directory, "d", Mode::from_raw_mode(0o755)).unwrap();
        directory = open(&directory);
    }
    directory
}

#[tokio::test]
async fn a_pod_with_17000_nested_directories_is_measured_and_removed() {
    // In memory, because ext4 needs half a minute to remove so many directories.
    let mut snapshotter = Snapshotter::configured(&[], 60_000, "");
    fs::create_dir(snapshotter.path("root")).unwrap();
    let _disk = Mounted::tmpfs(snapshotter.path("root"), "256m");
    snapshotter.restart();
    let mut client = snapshotter.connect().await;
    client.prepare("k8s.io/1/pod", "", &[]).await.unwrap();
    let id = snapshotter.names("snapshots").remove(0);
    let bottom = make_deep(&snapshotter.path(&format!("root/snapshots/{id}/fs")), 17_000);
    let file = openat(&bottom, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
    fs::File::from(file).set_len(0).unwrap();
    drop(bottom);
    let usage = client.usage("k8s.io/1/pod").await.unwrap();
    assert_eq!(usage.0, 1 + 17_000 + 1, "{usage:?}");
    client.remove("k8s.io/1/pod").await.unwrap();
    assert!(snapshotter.names("snapshots").is_empty(), "{}", snapshotter.log());
    let counter = snapshotter.stop();
    assert_eq!(counter("deferred_removals", "disk"), 0);
}

#[tokio::test]
async fn a_layer_of_any_depth_can_be_unpacked_or_taken_from_cvmfs() {
    let mut snapshotter = Snapshotter::start(&["one"], 60_000);
    fs::create_dir_all(snapshotter.path("one/.layers")).unwrap();
    let mut client = snapshotter.connect().await;
    client.prepare("k8s.io/1/extract-1", "", &[]).await.unwrap();
    let id = snapshotter.names("snapshots").remove(0);
    make_deep(&snapshotter.path(&format!("root/snapshots/{id}/fs")), 600);
    client.commit("k8s.io/1/extract-1", "k8s.io/2/layer", &[]).await.unwrap();
    assert_eq!(client.usage("k8s.io/2/layer").await.unwrap().0, 601);

    let deep = layer(&["file"]);
    deep.publish(&snapshotter.path("one"));
    make_deep(&deep.layerfs(&snapshotter.path("one")), 600);
    let mut pull = Pull::new(&snapshotter).await;
    pull.layer(&deep).await;
    assert_eq!(pull.lazy, [true]);
    // With a whiteout that deep, there would have to be a companion that deep.
    let deeper = layer(&["other"]);
    deeper.publish(&snapshotter.path("one"));
    let bottom = make_deep(&deeper.layerfs(&snapshotter.path("one")), 600);
    openat(&bottom, ".wh.gone", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
    pull.layer(&deeper).await;
    assert_eq!(pull.lazy, [true, false]);
    let counter = snapshotter.stop();
    assert_eq!((counter("layers", "cvmfs"), counter("layers", "fallback")), (1, 1));
}

#[tokio::test]
async fn a_directory_that_is_deleted_and_made_again_hides_the_one_below() {
    let snapshotter = Snapshotter::start(&["one"], 60_000);
    let layers: [Layer; 2] =
        [layer(&["dir/x", "dir/y", "dir/z/a"]), layer(&[".wh.dir", "dir/.wh.x", "dir/new", "dir/z/.wh.a"])];
    layers.iter().for_each(|layer| layer.publish(&snapshotter.path("one")));
    let mut pull = Pull::new(&snapshotter).await;
    for layer in &layers {
        pull.layer(layer).await;
    }
    assert_eq!(pull.lazy, [true, true], "{}", snapshotter.log());
    assert_eq!(pull.container("container").await.tree(), ["dir/", "dir/new=x", "dir/z/"]);
}
