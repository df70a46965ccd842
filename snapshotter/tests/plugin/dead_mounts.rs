//! Containers whose layers were found in a mount that died since.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bundles::image::Digest;
use containerd_snapshots::tonic::Code;

use crate::mounted::Mounted;
use crate::plugin::{Client, Plugin};

/// A plugin with one image of one published layer; the name of its snapshot.
async fn image(look_up_deadline_ms: u64) -> (Plugin, Client, String) {
    let plugin = Plugin::start(&["repository"], look_up_deadline_ms);
    let digest = Digest::of(b"layer");
    let layerfs = plugin.path(&format!("repository/.layers/{}/{}/layerfs", &digest.hex()[..2], digest.hex()));
    fs::create_dir_all(&layerfs).unwrap();
    fs::write(layerfs.join("file"), "x").unwrap();
    let mut client = plugin.connect().await;
    let digest = digest.to_string();
    let labels = [("containerd.io/snapshot.ref", "sha256:chain"), ("containerd.io/snapshot/cri.layer-digest", &digest)];
    assert_eq!(client.prepare("k8s.io/1/extract-1", "", &labels).await.unwrap_err(), Code::AlreadyExists);
    let name = client.list(&["kind==committed"]).await.unwrap().remove(0).name;
    (plugin, client, name)
}

/// A mount over the repository that gives "transport endpoint is not connected".
fn dead(plugin: &Plugin) -> Mounted {
    let (mounted, device) = Mounted::hanging(plugin.path("repository"));
    drop(OwnedFd::from(device));
    mounted
}

#[tokio::test]
async fn a_container_on_a_dead_mount_is_refused_with_the_reason_and_starts_when_it_is_back() {
    let (mut plugin, mut client, parent) = image(150).await;
    let before = client.prepare("k8s.io/2/before", &parent, &[]).await.unwrap();
    let mounted = dead(&plugin);
    assert_eq!(client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap_err(), Code::Unavailable);
    assert_eq!(client.view("k8s.io/4/view", &parent).await.unwrap_err(), Code::Unavailable);
    assert_eq!(client.mounts("k8s.io/2/before").await.unwrap_err(), Code::Unavailable);
    // What needs no mount goes on.
    client.prepare("k8s.io/5/scratch", "", &[]).await.unwrap();
    client.prepare("k8s.io/6/extract-1-x sha256:y", &parent, &[]).await.unwrap();
    client.remove("k8s.io/6/extract-1-x sha256:y").await.unwrap();
    assert_eq!(client.stat(&parent).await.unwrap().name, parent);
    client.remove("k8s.io/5/scratch").await.unwrap();
    assert_eq!(plugin.names("snapshots").len(), 2, "nothing of what was refused is left");
    let log = plugin.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("os error 107"), "told once: {log}");
    drop(mounted);
    assert_eq!(client.mounts("k8s.io/2/before").await.unwrap(), before);
    let mounts = client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap();
    assert_eq!(Mounted::new(plugin.path("m"), &mounts).tree(), ["file=x"]);
    assert!(plugin.log().contains("can be asked for layers again"), "{}", plugin.log());
    let counter = plugin.stop();
    assert_eq!((counter("mounts_dead"), counter("containers_refused"), counter("mounts_recovered")), (3, 3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_comes_back_within_the_deadline_costs_a_wait_only() {
    let (mut plugin, mut client, parent) = image(60_000).await;
    let mounted = dead(&plugin);
    let waiting = tokio::spawn(async move { client.prepare("k8s.io/3/container", &parent, &[]).await });
    let end = Instant::now() + Duration::from_secs(60);
    while !plugin.log().contains("os error 107") {
        assert!(Instant::now() < end && !waiting.is_finished(), "{}", plugin.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(mounted);
    let mounts = waiting.await.unwrap().unwrap();
    assert_eq!(Mounted::new(plugin.path("m"), &mounts).tree(), ["file=x"]);
    let counter = plugin.stop();
    assert_eq!((counter("mounts_dead"), counter("containers_refused"), counter("mounts_recovered")), (1, 0, 1));
}

#[tokio::test]
async fn a_mount_that_is_only_slow_does_not_keep_a_container_from_starting() {
    let (mut plugin, mut client, parent) = image(150).await;
    let (mounted, device) = Mounted::hanging(plugin.path("repository"));
    client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap();
    drop((device, mounted));
    let counter = plugin.stop();
    assert_eq!((counter("lookups_timed_out"), counter("mounts_dead"), counter("containers_refused")), (1, 0, 0));
}

#[tokio::test]
async fn a_layer_that_left_the_repository_is_told_apart_from_a_dead_mount() {
    let (mut plugin, mut client, parent) = image(150).await;
    fs::remove_dir_all(plugin.path("repository/.layers")).unwrap();
    fs::create_dir(plugin.path("repository/.layers")).unwrap();
    assert_eq!(client.prepare("k8s.io/3/container", &parent, &[]).await.unwrap_err(), Code::Unavailable);
    let counter = plugin.stop();
    assert_eq!((counter("mounts_dead"), counter("containers_refused")), (0, 1));
}
