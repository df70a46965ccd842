//! Containers whose layers are in a mount that has died.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use containerd_snapshots::tonic::Code;

use crate::layers::{Pull, layer};
use crate::mounted::Mounted;
use crate::process::{Client, Snapshotter};

/// A snapshotter that has an image with one published layer, and the name of the layer's snapshot.
async fn image(lookup_timeout_ms: u64) -> (Snapshotter, Client, String) {
    let snapshotter = Snapshotter::start(&["repository"], lookup_timeout_ms);
    let layer = layer(&["file"]);
    layer.publish(&snapshotter.path("repository"));
    let mut pull = Pull::new(&snapshotter).await;
    pull.layer(&layer).await;
    assert_eq!(pull.lazy, [true]);
    let (client, name) = (pull.client, pull.parent);
    (snapshotter, client, name)
}

/// Mounts a dead file system over the repository: it returns "transport endpoint is not connected".
fn dead(snapshotter: &Snapshotter) -> Mounted {
    let (mounted, device) = Mounted::hanging(snapshotter.path("repository"));
    drop(OwnedFd::from(device));
    mounted
}

#[tokio::test]
async fn a_container_is_refused_until_its_mount_is_back() {
    let (mut snapshotter, mut client, parent) = image(150).await;
    let before = client.prepare("k8s.io/2/before", &parent, &[]).await.unwrap();
    let mounted = dead(&snapshotter);
    assert_eq!(client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap_err(), Code::Unavailable);
    assert_eq!(client.view("k8s.io/4/view", &parent).await.unwrap_err(), Code::Unavailable);
    assert_eq!(client.mounts("k8s.io/2/before").await.unwrap_err(), Code::Unavailable);
    // Calls that need no mount succeed.
    client.prepare("k8s.io/5/scratch", "", &[]).await.unwrap();
    client.prepare("k8s.io/6/extract-1-x sha256:y", &parent, &[]).await.unwrap();
    client.remove("k8s.io/6/extract-1-x sha256:y").await.unwrap();
    assert_eq!(client.stat(&parent).await.unwrap().name, parent);
    client.remove("k8s.io/5/scratch").await.unwrap();
    assert_eq!(snapshotter.names("snapshots").len(), 2, "nothing is left of the refused snapshots");
    let log = snapshotter.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("os error 107"), "one warning: {log}");
    drop(mounted);
    assert_eq!(client.mounts("k8s.io/2/before").await.unwrap(), before);
    let mounts = client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap();
    assert_eq!(Mounted::new(snapshotter.path("m"), &mounts).tree(), ["file=x"]);
    assert!(snapshotter.log().contains("succeed again"), "{}", snapshotter.log());
    let counter = snapshotter.stop();
    assert_eq!(
        (counter("dead_mounts", "detected"), counter("dead_mounts", "refused"), counter("dead_mounts", "recovered")),
        (3, 3, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_waits_for_a_mount_that_comes_back() {
    let (mut snapshotter, mut client, parent) = image(60_000).await;
    let mounted = dead(&snapshotter);
    let waiting = tokio::spawn(async move { client.prepare("k8s.io/3/container", &parent, &[]).await });
    let end = Instant::now() + Duration::from_secs(60);
    while !snapshotter.log().contains("os error 107") {
        assert!(Instant::now() < end && !waiting.is_finished(), "{}", snapshotter.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(mounted);
    let mounts = waiting.await.unwrap().unwrap();
    assert_eq!(Mounted::new(snapshotter.path("m"), &mounts).tree(), ["file=x"]);
    let counter = snapshotter.stop();
    assert_eq!(
        (counter("dead_mounts", "detected"), counter("dead_mounts", "refused"), counter("dead_mounts", "recovered")),
        (1, 0, 1)
    );
}

#[tokio::test]
async fn a_container_starts_on_a_mount_that_is_only_slow() {
    let (mut snapshotter, mut client, parent) = image(150).await;
    let (mounted, device) = Mounted::hanging(snapshotter.path("repository"));
    client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap();
    drop((device, mounted));
    let counter = snapshotter.stop();
    assert_eq!(
        (counter("failed_lookups", "timeout"), counter("dead_mounts", "detected"), counter("dead_mounts", "refused")),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn a_layer_missing_from_the_repository_is_no_dead_mount() {
    let (mut snapshotter, mut client, parent) = image(150).await;
    fs::remove_dir_all(snapshotter.path("repository/.layers")).unwrap();
    fs::create_dir(snapshotter.path("repository/.layers")).unwrap();
    assert_eq!(client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap_err(), Code::Unavailable);
    let counter = snapshotter.stop();
    assert_eq!((counter("dead_mounts", "detected"), counter("dead_mounts", "refused")), (0, 1));
}
