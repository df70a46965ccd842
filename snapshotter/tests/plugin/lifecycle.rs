//! Snapshots without CVMFS, which behave as in containerd's own overlayfs snapshotter.

use std::fs;

use containerd_snapshots::tonic::Code;

use crate::mounted::Mounted;
use crate::process::{Snapshotter, labels};

const COMMITTED: i32 = 3;
const ACTIVE: i32 = 2;
const VIEW: i32 = 1;

#[tokio::test]
async fn layers_survive_a_crash_at_every_step() {
    let mut snapshotter = Snapshotter::start(&[], 1000);
    let mounts = snapshotter.connect().await.prepare("a", "", &[]).await.unwrap();
    snapshotter.crash_and_restart();
    let mut client = snapshotter.connect().await;
    assert_eq!(client.mounts("a").await.unwrap(), mounts);
    {
        let mounted = Mounted::new(snapshotter.path("m"), &mounts);
        fs::create_dir_all(mounted.path().join("d/e")).unwrap();
        fs::write(mounted.path().join("kept"), "1").unwrap();
        fs::write(mounted.path().join("d/gone"), "1").unwrap();
    }
    client.commit("a", "A", &[("x", "1")]).await.unwrap();
    snapshotter.crash_and_restart();
    let mut client = snapshotter.connect().await;
    assert_eq!(client.stat("a").await.unwrap_err(), Code::NotFound);
    let info = client.stat("A").await.unwrap();
    assert_eq!((info.kind, info.parent.as_str(), info.labels), (COMMITTED, "", labels(&[("x", "1")])));
    let mounts = client.prepare("b", "A", &[]).await.unwrap();
    {
        let mounted = Mounted::new(snapshotter.path("m"), &mounts);
        fs::remove_file(mounted.path().join("d/gone")).unwrap();
        fs::write(mounted.path().join("new"), "2").unwrap();
    }
    client.commit("b", "B", &[]).await.unwrap();
    let view = client.view("v", "B").await.unwrap();
    snapshotter.crash_and_restart();
    let mut client = snapshotter.connect().await;
    assert_eq!(client.mounts("v").await.unwrap(), view);
    {
        let mounted = Mounted::new(snapshotter.path("m"), &view);
        assert_eq!(mounted.tree(), ["d/", "d/e/", "kept=1", "new=2"]);
        assert_eq!(fs::write(mounted.path().join("x"), "").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    let view = client.view("v1", "A").await.unwrap();
    assert_eq!(Mounted::new(snapshotter.path("m"), &view).tree(), ["d/", "d/e/", "d/gone=1", "kept=1"]);
    for name in ["A", "B"] {
        assert_eq!(client.remove(name).await.unwrap_err(), Code::FailedPrecondition, "{name} has children");
    }
    for name in ["v", "v1", "B", "A"] {
        client.remove(name).await.unwrap();
    }
    assert!(client.list(&[]).await.unwrap().is_empty());
    assert!(snapshotter.names("snapshots").is_empty() && snapshotter.names("l").is_empty());
}

#[tokio::test]
async fn each_mistake_has_its_own_code() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    client.prepare("a", "", &[]).await.unwrap();
    client.commit("a", "A", &[]).await.unwrap();
    client.prepare("active", "A", &[]).await.unwrap();
    client.view("view", "A").await.unwrap();
    assert_eq!(client.prepare("active", "A", &[]).await.unwrap_err(), Code::AlreadyExists);
    assert_eq!(client.view("active", "A").await.unwrap_err(), Code::AlreadyExists);
    assert_eq!(client.prepare("new", "missing", &[]).await.unwrap_err(), Code::NotFound);
    assert_eq!(client.prepare("new", "active", &[]).await.unwrap_err(), Code::InvalidArgument);
    assert_eq!(client.commit("missing", "M", &[]).await.unwrap_err(), Code::NotFound);
    assert_eq!(client.commit("active", "A", &[]).await.unwrap_err(), Code::AlreadyExists);
    assert_eq!(client.commit("view", "V", &[]).await.unwrap_err(), Code::FailedPrecondition);
    assert_eq!(client.mounts("A").await.unwrap_err(), Code::FailedPrecondition);
    for (call, code) in [
        ("mounts", client.mounts("missing").await.err()),
        ("stat", client.stat("missing").await.err()),
        ("usage", client.usage("missing").await.err()),
        ("remove", client.remove("missing").await.err()),
    ] {
        assert_eq!(code, Some(Code::NotFound), "{call}");
    }
    assert_eq!(client.list(&["kind=active"]).await.unwrap_err(), Code::InvalidArgument);
    // Nothing is left of the failed calls.
    assert_eq!(snapshotter.names("snapshots").len(), 3);
}

#[tokio::test]
async fn stat_usage_and_list_return_what_was_set() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    let mounts = client.prepare("a", "", &[("one", "1"), ("two", "2")]).await.unwrap();
    let empty = client.usage("a").await.unwrap();
    fs::write(Mounted::new(snapshotter.path("m"), &mounts).path().join("file"), vec![7; 1 << 20]).unwrap();
    let full = client.usage("a").await.unwrap();
    assert!(full.0 == empty.0 + 1 && full.1 >= empty.1 + (1 << 20), "{empty:?} {full:?}");
    client.commit("a", "A", &[("three", "3")]).await.unwrap();
    assert_eq!(client.usage("A").await.unwrap(), full);
    client.prepare("b", "A", &[]).await.unwrap();
    client.view("v", "A").await.unwrap();
    let mut info = client.stat("A").await.unwrap();
    assert_eq!(info.labels, labels(&[("three", "3")]));
    info.labels = labels(&[("four", "4")]);
    let updated = client.update(info, &[]).await.unwrap();
    assert_eq!(updated.labels, labels(&[("four", "4")]));
    assert_eq!(client.stat("A").await.unwrap(), updated);
    for (filters, expected) in [
        (vec![], vec![("A", COMMITTED), ("b", ACTIVE), ("v", VIEW)]),
        (vec!["kind==view", "kind==active"], vec![("b", ACTIVE), ("v", VIEW)]),
        (vec!["labels.four==4"], vec![("A", COMMITTED)]),
        (vec!["parent==A,name!=v"], vec![("b", ACTIVE)]),
        (vec!["labels.three"], vec![]),
    ] {
        let found = client.list(&filters).await.unwrap();
        let found: Vec<_> = found.iter().map(|info| (info.name.as_str(), info.kind)).collect();
        assert_eq!(found, expected, "{filters:?}");
    }
}

#[tokio::test]
async fn only_left_over_directories_are_cleaned_up() {
    let mut snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    client.prepare("a", "", &[]).await.unwrap();
    let there = (snapshotter.names("snapshots"), snapshotter.names("l"));
    let litter = || {
        fs::create_dir_all(snapshotter.path("root/snapshots/999/fs/x")).unwrap();
        std::os::unix::fs::symlink("/nowhere", snapshotter.path("root/l/998a")).unwrap();
    };
    litter();
    client.cleanup().await.unwrap();
    assert_eq!((snapshotter.names("snapshots"), snapshotter.names("l")), there);
    litter();
    snapshotter.crash_and_restart();
    assert_eq!((snapshotter.names("snapshots"), snapshotter.names("l")), there);
}

#[tokio::test]
async fn a_second_process_does_not_take_the_socket() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    client.prepare("a", "", &[]).await.unwrap();
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_cvmfs-prefetch-snapshotter"));
    let output = second.arg("--config").arg(snapshotter.path("config.toml")).output().unwrap();
    assert!(!output.status.success());
    assert!(snapshotter.connect().await.stat("a").await.is_ok());
}
