//! The requirements of containerd's own snapshotter tests for the files in snapshots, with real mounts: a tree changed layer by
//! layer equals a tree changed in place.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::mounted::Mounted;
use crate::process::{Client, Snapshotter};
use crate::steps::{Step, apply, dir, file, list};

/// Commits each list of steps on top of the one before, and compares with a plain directory after each.
async fn check(name: &str, layers: &[Vec<Step>]) {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    let flat = snapshotter.path("flat");
    fs::create_dir(&flat).unwrap();
    let mut parent = String::new();
    for (number, steps) in layers.iter().enumerate() {
        let (key, committed) = (format!("{name}-{number}"), format!("{name}-{number}-committed"));
        let mounts = client.prepare(&key, &parent, &[]).await.unwrap();
        let mounted = Mounted::new(snapshotter.path("m"), &mounts);
        assert_eq!(list(mounted.path()), list(&flat), "{name}, before the steps of layer {number}");
        apply(steps, mounted.path());
        apply(steps, &flat);
        assert_eq!(list(mounted.path()), list(&flat), "{name}, after the steps of layer {number}");
        drop(mounted);
        client.commit(&key, &committed, &[]).await.unwrap();
        parent = committed;
        let view = client.view("view", &parent).await.unwrap();
        assert_eq!(
            list(Mounted::new(snapshotter.path("m"), &view).path()),
            list(&flat),
            "{name}, view of layer {number}"
        );
        client.remove("view").await.unwrap();
    }
}

#[tokio::test]
async fn a_tree_changed_in_layers_equals_one_changed_in_place() {
    use Step::{Chown, File, Link, Remove, Rename, Symlink};
    let cases: Vec<(&str, Vec<Vec<Step>>)> = vec![
        (
            "a file changes",
            vec![
                vec![dir("etc"), file("etc/hosts", "mydomain 10.0.0.1"), file("etc/profile", "PATH=/usr/bin")],
                vec![
                    file("etc/hosts", "mydomain 10.0.0.2"),
                    File("etc/profile", "PATH=/usr/bin".to_owned(), 0o666),
                    dir("root"),
                    file("root/.bashrc", "PATH=/usr/sbin:/usr/bin"),
                ],
            ],
        ),
        ("deleted in a child", vec![vec![file("foo", "1"), file("foobar", "2")], vec![Remove("foobar")], vec![]]),
        (
            "moved from a lower layer",
            vec![
                vec![dir("dir1"), file("dir1/f1", "Hello"), dir("dir2"), file("dir2/f2", "...")],
                vec![
                    dir("dir3"),
                    file("dir3/f1", "Hello"),
                    Remove("dir1"),
                    Link("dir2/f2", "dir3/f2"),
                    Remove("dir2/f2"),
                ],
            ],
        ),
        (
            "a directory is deleted and created again",
            vec![
                vec![dir("lib"), file("lib/hidden", "")],
                vec![Remove("lib"), dir("lib"), file("lib/not-hidden", "")],
                vec![file("lib/newfile", "")],
            ],
        ),
        (
            "owners change",
            vec![
                vec![dir("opt"), dir("opt/a"), dir("opt/a/b"), file("opt/a/b/file.txt", "hello")],
                vec![Chown("opt", 1), Chown("opt/a", 1), Chown("opt/a/b", 1), Chown("opt/a/b/file.txt", 1)],
            ],
        ),
        (
            "owners of directories",
            vec![
                vec![
                    dir("dir1"),
                    dir("dir2"),
                    dir("dir3"),
                    dir("dir4"),
                    file("dir4/f1", "..."),
                    dir("dir5"),
                    file("dir5/f1", "..."),
                    Chown("dir1", 1),
                    Chown("dir2", 1),
                    Chown("dir3", 1),
                    Chown("dir5", 1),
                    Chown("dir5/f1", 1),
                ],
                vec![Chown("dir2", 0), Remove("dir3"), Chown("dir4", 1), Chown("dir4/f1", 1)],
                vec![dir("dir3"), Chown("dir3", 1), Remove("dir5"), dir("dir5"), Chown("dir5", 1)],
            ],
        ),
        (
            // Without directories of a lower layer: overlayfs refuses to rename these.
            "renamed",
            vec![
                vec![dir("somefiles"), file("somefiles/f1", "was here first!"), file("somefiles/f2", "nothing")],
                vec![
                    file("somefiles/f1-overwrite", "new content 1"),
                    Rename("somefiles/f1-overwrite", "somefiles/f1"),
                    Rename("somefiles/f2", "somefiles/f3"),
                    dir("own"),
                    Rename("own", "moved"),
                ],
            ],
        ),
        (
            "types and links",
            vec![
                vec![
                    file("a", "1"),
                    Link("a", "b"),
                    Symlink("a", "link"),
                    dir("d"),
                    file("d/x", "2"),
                    File("setuid", "3".to_owned(), 0o4755),
                ],
                vec![Remove("a"), dir("a"), file("a/new", "4"), Remove("link"), file("link", "5"), Remove("d")],
                vec![Symlink("nowhere", "d"), Remove("b"), Chown("setuid", 7)],
            ],
        ),
    ];
    for (name, layers) in cases {
        check(name, &layers).await;
    }
}

#[tokio::test]
async fn images_of_128_layers_can_be_mounted() {
    use Step::{File, Remove};
    let first = vec![
        file("bottom", "way at the bottom\n"),
        file("overwriteme", "FIRST!\n"),
        Step::Dir("addhere", 0o755),
        Step::Dir("onlyme", 0o755),
        file("onlyme/bottom", "bye!\n"),
    ];
    let later = (1..128).map(|number| {
        // Steps need `&'static str`; a test may leak a few.
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        vec![
            File("overwriteme", format!("{number} WAS HERE!\n"), 0o777),
            File(leak(format!("addhere/file-{number}")), "same\n".to_owned(), 0o755),
            Remove("onlyme"),
            Step::Dir("onlyme", 0o755),
            File(leak(format!("onlyme/file-{number}")), "only me!\n".to_owned(), 0o777),
        ]
    });
    let layers: Vec<_> = std::iter::once(first).chain(later).collect();
    assert_eq!(layers.len(), 128);
    check("layer", &layers).await;
}

async fn committed(snapshotter: &Snapshotter, client: &mut Client, name: &str, parent: &str) {
    let mounts = client.prepare("making", parent, &[]).await.unwrap();
    let mounted = Mounted::new(snapshotter.path("m"), &mounts);
    fs::write(mounted.path().join(name), name).unwrap();
    drop(mounted);
    client.commit("making", name, &[]).await.unwrap();
}

#[tokio::test]
async fn a_view_is_read_only_on_any_number_of_layers() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    committed(&snapshotter, &mut client, "A", "").await;
    committed(&snapshotter, &mut client, "B", "A").await;
    for parent in ["", "A", "B"] {
        let mounts = client.view("view", parent).await.unwrap();
        assert_eq!(client.mounts("view").await.unwrap(), mounts);
        let mounted = Mounted::new(snapshotter.path("m"), &mounts);
        for name in ["new", "A"] {
            let error = fs::write(mounted.path().join(name), "x").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{name} on {parent:?}");
        }
        drop(mounted);
        client.remove("view").await.unwrap();
    }
}

#[tokio::test]
async fn the_root_directory_inherits_its_owner_from_the_layer() {
    let snapshotter = Snapshotter::start(&[], 1000);
    let mut client = snapshotter.connect().await;
    let mounts = client.prepare("a", "", &[]).await.unwrap();
    let mounted = Mounted::new(snapshotter.path("m"), &mounts);
    let root = |mounted: &Mounted| {
        let metadata = fs::metadata(mounted.path()).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
    };
    assert_eq!(root(&mounted), (0o755, 0, 0));
    std::os::unix::fs::chown(mounted.path(), Some(5), Some(6)).unwrap();
    drop(mounted);
    client.commit("a", "A", &[]).await.unwrap();
    for key in ["b", "v"] {
        let mounts = match key {
            "b" => client.prepare(key, "A", &[]).await.unwrap(),
            _ => client.view(key, "A").await.unwrap(),
        };
        assert_eq!(root(&Mounted::new(snapshotter.path("m"), &mounts)), (0o755, 5, 6), "{key}");
    }
}
