//! Whiteouts in real overlay mounts, compared with the result that the OCI image specification asks for. Needs root.
#![allow(clippy::unwrap_used)]

use super::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Type, content and attributes of each file, as `ls` and `cat` show them.
type Tree = BTreeMap<Vec<u8>, String>;

/// A layer: paths, with a `/` at the end for directories; the content of a file is its layer's number.
struct Layer(&'static [&'static str]);

impl Layer {
    fn entries(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.0.iter().map(|path| (path.trim_end_matches('/'), path.ends_with('/')))
    }

    /// Writes the layer as CVMFS publishes it.
    fn publish(&self, number: usize, root: &Path) {
        fs::create_dir_all(root).unwrap();
        for (path, is_directory) in self.entries() {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if is_directory {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::write(path, number.to_string()).unwrap();
            }
        }
        // Directories of each layer have their own owner, mode and time, to see which layer a mount shows.
        for path in directories(root) {
            chown(&path, Some(1000 + number as u32), Some(2000 + number as u32)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o1700 + number as u32)).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000 + number as u64, 123_456_789);
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }

    /// Applies the layer as the specification says: first the deletions, then the additions.
    fn apply(&self, number: usize, tree: &mut Tree) {
        let under = |path: &[u8], directory: &str| {
            directory.is_empty() || path.strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
        };
        for (path, _) in self.entries() {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            if name == ".wh..wh..opq" {
                tree.retain(|path, _| !under(path, directory));
            } else if let Some(name) = name.strip_prefix(".wh.").filter(|name| !name.starts_with(".wh.")) {
                let deleted = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
                tree.retain(|path, _| path != deleted.as_bytes() && !under(path, &deleted));
            }
        }
        let shown = format!("d {} {} {:o} 100000{number}.123456789", 1000 + number, 2000 + number, 0o1700 + number);
        for (path, is_directory) in self.entries() {
            let parts: Vec<_> = path.split('/').collect();
            for length in 1..parts.len() {
                tree.insert(parts[..length].join("/").into_bytes(), shown.clone());
            }
            if path.rsplit('/').next().unwrap().starts_with(".wh.") {
                continue;
            }
            if is_directory {
                tree.insert(path.as_bytes().to_vec(), shown.clone());
            } else {
                tree.retain(|other, _| !under(other, path));
                tree.insert(path.as_bytes().to_vec(), format!("f {number}"));
            }
        }
    }
}

fn directories(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(directories(&entry.path()));
        }
    }
    all
}

fn read_tree(root: &Path, below: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
        let shown = if metadata.is_dir() {
            read_tree(root, &path, tree);
            let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
            format!("d {uid} {gid} {mode:o} {}.{:09}", metadata.mtime(), metadata.mtime_nsec())
        } else if metadata.is_file() {
            format!("f {}", fs::read_to_string(root.join(&path)).unwrap())
        } else {
            format!("other {:o}", metadata.mode())
        };
        tree.insert(path.as_os_str().as_bytes().to_vec(), shown);
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Mounts the layers, lowest first, with their companions, and reads the merged tree.
fn mounted(layers: &[Layer], writable: bool) -> Tree {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: String| directory.path().join(name);
    let mut lower = Vec::new();
    for (number, layer) in layers.iter().enumerate().rev() {
        let layerfs = path(number.to_string());
        layer.publish(number, &layerfs);
        let whiteouts = walk::walk(&layerfs).unwrap().whiteouts;
        assert_eq!(whiteouts.any(), layer.0.iter().any(|path| path.contains(".wh.")));
        let (above, below) = (path(format!("{number}a")), path(format!("{number}b")));
        fs::create_dir(&above).unwrap();
        fs::create_dir(&below).unwrap();
        companion::fill_above(&whiteouts, &above).unwrap();
        companion::fill_below(&whiteouts, &below).unwrap();
        lower.extend(whiteouts.any().then_some(above));
        lower.push(layerfs);
        lower.extend((whiteouts.delete_anything() && number > 0).then_some(below));
    }
    let lower = lower.iter().map(|path| path.as_os_str()).collect::<Vec<_>>().join(OsStr::new(":"));
    let mut options = OsStr::new("lowerdir=").to_owned();
    options.push(lower);
    if writable {
        for name in ["upper", "work"] {
            fs::create_dir(path(name.to_owned())).unwrap();
            options.push(format!(",{name}dir={}", path(name.to_owned()).display()));
        }
    }
    let merged = path("merged".to_owned());
    fs::create_dir(&merged).unwrap();
    // A single lower directory cannot be mounted without an upper one; an empty one below changes nothing.
    if !writable {
        fs::create_dir(path("empty".to_owned())).unwrap();
        options.push(format!(":{}", path("empty".to_owned()).display()));
    }
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_os_str())).unwrap();
    let _unmount = Mounted(merged.clone());
    let mut tree = Tree::new();
    read_tree(&merged, Path::new(""), &mut tree);
    tree
}

fn check(layers: &[Layer]) {
    let mut expected = Tree::new();
    for (number, layer) in layers.iter().enumerate() {
        layer.apply(number, &mut expected);
    }
    for writable in [false, true] {
        let found = mounted(layers, writable);
        let text = |tree: &Tree| {
            tree.iter().map(|(path, shown)| format!("{}: {shown}\n", path.escape_ascii())).collect::<String>()
        };
        assert_eq!(text(&found), text(&expected));
    }
}

#[test]
#[ignore = "needs root"]
fn deleted_files_and_directories_stay_deleted() {
    check(&[
        Layer(&["a/gone", "a/kept", "b/tree/x", "b/tree/y/z", "top"]),
        Layer(&["a/.wh.gone", "b/.wh.tree", ".wh.top"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn deleting_a_missing_file_changes_nothing() {
    check(&[Layer(&["a/x"]), Layer(&["a/.wh.nothing", "new/.wh.nothing", ".wh.nothing"])]);
}

#[test]
#[ignore = "needs root"]
fn whiteouts_in_the_lowest_layer_are_hidden() {
    check(&[Layer(&["a/x", "a/.wh.y", "b/.wh..wh..opq", "b/z"])]);
}

#[test]
#[ignore = "needs root"]
fn an_opaque_directory_hides_only_the_layers_below() {
    check(&[
        Layer(&["d/old", "d/both", "d/sub/old", "other"]),
        Layer(&["d/.wh..wh..opq", "d/both", "d/new", "d/sub/new"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn opaque_directories_can_be_nested() {
    check(&[
        Layer(&["d/1", "d/e/1", "d/e/f/1", "d/g/1"]),
        Layer(&["d/e/.wh..wh..opq", "d/e/f/.wh..wh..opq", "d/e/f/2"]),
        Layer(&["d/.wh..wh..opq", "d/e/f/3", "d/g/"]),
        Layer(&["d/e/4", "d/e/f/.wh.3"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_name_deleted_and_added_in_one_layer_is_the_new_file() {
    check(&[
        Layer(&["file", "dir/old", "dir/sub/old"]),
        Layer(&[".wh.file", "file", ".wh.dir", "dir/new", "dir/sub/new"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn files_and_directories_can_change_types() {
    check(&[
        Layer(&["a", "b/x", "c/x", "d"]),
        Layer(&[".wh.a", "a/new", ".wh.b", "b", "c", "d/new"]),
        Layer(&["a/.wh.new", "b/back"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_deleted_file_can_be_added_again_in_a_higher_layer() {
    check(&[Layer(&["a/x", "a/y"]), Layer(&["a/.wh.x", "a/.wh.y"]), Layer(&["a/x"])]);
}

#[test]
#[ignore = "needs root"]
fn a_directory_can_be_deleted_and_made_again_in_one_layer() {
    check(&[
        Layer(&["a/x", "a/y", "a/b/c", "kept"]),
        Layer(&[".wh.a", "a/.wh.x", "a/new", "a/b/.wh.c", "a/b/.wh..wh..opq", "a/b/d"]),
        Layer(&["a/.wh.new"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn names_can_have_any_characters() {
    check(&[
        Layer(&["sp ace/new\nline", "ünï/cödé", "wh/.wh", "x/y,z:\\"]),
        Layer(&["sp ace/.wh.new\nline", "ünï/.wh.cödé", "x/.wh.y,z:\\", ".wh.é"]),
    ]);
}

#[test]
#[ignore = "needs root"]
fn files_of_aufs_are_hidden_and_delete_nothing() {
    check(&[Layer(&["a", "d/b"]), Layer(&[".wh..wh.aufs", ".wh..wh.plnk/", "d/.wh..wh.orph/"])]);
}

#[test]
#[ignore = "needs root"]
fn a_whiteout_without_a_name_deletes_nothing() {
    let mut directory = WhiteoutDirectory { path: vec![b"d".to_vec()], ..WhiteoutDirectory::default() };
    for name in ["name", ".wh.", ".wh..", ".wh...", ".wh....", ".wh.x"] {
        directory.add_if_whiteout(name.as_bytes());
    }
    assert_eq!(directory.hidden.len(), 5);
    assert_eq!(directory.deleted, [b"...".to_vec(), b"x".to_vec()]);
}

#[test]
#[ignore = "needs root"]
fn a_path_of_4000_bytes_is_supported() {
    let directory = tempfile::tempdir().unwrap();
    let component = "x".repeat(250);
    // Made step by step: the whole path is too long for one call.
    let make = |root: &str, depth: usize, with_whiteout: bool| {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let top = directory.path().join(root);
        fs::create_dir(&top).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut fd = openat(CWD, &top, flags, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&fd, &component, Mode::RWXU).unwrap();
            fd = openat(&fd, &component, flags, Mode::empty()).unwrap();
        }
        if with_whiteout {
            openat(&fd, ".wh.gone", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        }
    };
    make("layerfs", 16, true);
    let whiteouts = walk::walk(&directory.path().join("layerfs")).unwrap().whiteouts;
    assert_eq!(whiteouts.directories.len(), 17);
    for (name, fill) in [("above", companion::fill_above as fn(&_, &Path) -> _), ("below", companion::fill_below)] {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        fill(&whiteouts, &path).unwrap();
        // 16 directories, the root and one whiteout.
        assert_eq!(crate::snapshots::usage::measure(&path).unwrap().inodes, 18, "{name}");
    }
    make("too_deep", MAX_DEPTH + 2, true);
    assert!(walk::walk(&directory.path().join("too_deep")).is_err());
}
