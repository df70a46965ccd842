//! Images with unusual but legal content.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use testbed::images::{Image, ImageBuilder, LayerTar, Owner};
use testbed::site::image_cache;

/// `cap_net_raw=ep`, as stored by the kernel.
pub(super) const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The file with this capability.
pub(super) const CAPABLE: &str = "with-capability";
/// Names of one file; a higher layer deletes the second.
pub(super) const LINKED: [&str; 4] = ["links/1", "links/2", "links/3", "links/moved/4"];

/// Unusual file names.
fn names() -> Vec<PathBuf> {
    let long = "n".repeat(255);
    let mut names: Vec<PathBuf> = [
        "with space",
        " leading",
        "trailing ",
        "new\nline",
        "tab\t",
        "quo'te\"s",
        "back\\slash",
        "co:lon",
        "com,ma",
        "-dash",
        "...",
        "..x",
        "~",
        "$HOME",
        "*",
        "%s",
        "=",
        "lowerdir=x",
        "wh.x",
        ".whx",
        "ünï-cödé",
        "u\u{308}",
        "\u{6587}\u{5b57}",
        "\u{1f980}",
        "\u{7f}",
        "\u{1}",
    ]
    .iter()
    .map(PathBuf::from)
    .collect();
    names.push(long.into());
    names
}

/// Longest path in bytes that containerd can unpack: its target directory counts towards the kernel's limit.
pub(super) const UNPACKABLE: usize = 3900;

/// A path of `length` bytes, preceded by its parents.
fn long_path(length: usize) -> Vec<PathBuf> {
    let mut path = PathBuf::from("long");
    let mut paths = vec![path.clone()];
    while path.as_os_str().len() + 256 < length {
        path.push("p".repeat(255));
        paths.push(path.clone());
    }
    let rest = length - path.as_os_str().len() - 1;
    path.push("f".repeat(rest));
    paths.push(path);
    paths
}

fn tree(tar: &mut LayerTar) -> Result<()> {
    for directory in
        ["modes", "owners", "times", "types", "links", "links/moved", "names", "changed", "emptied", "kept"]
    {
        tar.dir(directory, 0o755)?;
    }
    for mode in [0, 0o400, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o4000] {
        tar.file(format!("modes/{mode:o}"), mode, format!("{mode:o}"))?;
        tar.dir(format!("modes/dir-{mode:o}"), mode)?;
    }
    for (uid, gid) in [(0, 1), (1234, 5678), (65_534, 65_534), (2_000_000_000, 0), (4_294_967_294, 4_294_967_294)] {
        tar.owner(Owner { uid, gid });
        tar.file(format!("owners/{uid}-{gid}"), 0o4755, "")?;
        tar.dir(format!("owners/dir-{uid}-{gid}"), 0o2770)?;
        tar.symlink(format!("owners/link-{uid}-{gid}"), "nowhere")?;
    }
    tar.owner(Owner::default());
    for seconds in [0, 1, 1_735_689_601, (1 << 31) + 10, 1 << 32] {
        tar.mtime(seconds);
        tar.file(format!("times/{seconds}"), 0o644, "")?;
        tar.symlink(format!("times/link-{seconds}"), "1")?;
        tar.dir(format!("times/dir-{seconds}"), 0o755)?;
    }
    tar.mtime(1_735_689_600);
    tar.file("types/empty", 0o644, "")?;
    tar.file("types/large", 0o644, vec![7; 3 << 20])?;
    tar.fifo("types/fifo", 0o600)?;
    tar.character_device("types/null", 0o666, 1, 3)?;
    tar.character_device("types/far", 0o600, 200, 300)?;
    tar.block_device("types/block", 0o660, 7, 1)?;
    for (name, target) in [
        ("relative", "empty"),
        ("absolute", "/types/empty"),
        ("dangling", "not/there"),
        ("itself", "itself"),
        ("up", "../../../.."),
        ("new\nline", "with space\n"),
        ("to-directory", "../modes"),
    ] {
        tar.symlink(format!("types/link-{name}"), target)?;
    }
    tar.symlink("types/link-long", "t".repeat(4000))?;
    tar.file(LINKED[0], 0o4755, "linked")?;
    for name in &LINKED[1..] {
        tar.hardlink(name, LINKED[0])?;
    }
    for name in names() {
        tar.file(Path::new("names").join(&name), 0o644, name.as_os_str().as_bytes())?;
        tar.dir(Path::new("names").join(with_prefix("dir-", &name)), 0o700)?;
    }
    long_file(tar, UNPACKABLE)?;
    let mut deep = PathBuf::from("deep");
    for _ in 0..60 {
        tar.dir(&deep, 0o755)?;
        deep.push("d");
    }
    tar.file(deep, 0o644, "deeper")?;
    tar.file_with_attributes(
        CAPABLE,
        0o755,
        "#!/bin/true\n",
        &[("security.capability", &CAPABILITY), ("user.comment", b"kept by containerd")],
    )?;
    victims(tar)
}

fn long_file(tar: &mut LayerTar, length: usize) -> Result<()> {
    let mut directories = long_path(length);
    let file = directories.pop().context("never empty")?;
    directories.iter().try_for_each(|directory| tar.dir(directory, 0o755))?;
    tar.file(file, 0o644, "deep down")
}

/// A name of at most 255 bytes.
fn with_prefix(prefix: &str, name: &Path) -> PathBuf {
    let bytes = [prefix.as_bytes(), name.as_os_str().as_bytes()].concat();
    OsStr::from_bytes(&bytes[..bytes.len().min(255)]).into()
}

const KINDS: [&str; 6] = ["file", "dir", "link", "fifo", "null", "gone"];

/// An entry of each kind that becomes each other kind: `changed/<before>-<after>`.
fn victims(tar: &mut LayerTar) -> Result<()> {
    for before in KINDS {
        for after in KINDS {
            make(tar, before, &format!("changed/{before}-{after}"), "lower")?;
        }
    }
    for name in ["emptied/file", "kept/file"] {
        tar.file(name, 0o644, name)?;
    }
    for directory in ["emptied/dir", "kept/dir", "kept/chmod", "kept/chown", "kept/touched"] {
        tar.dir(directory, 0o755)?;
        tar.file(format!("{directory}/content"), 0o644, directory)?;
    }
    Ok(())
}

fn make(tar: &mut LayerTar, kind: &str, path: &str, content: &str) -> Result<()> {
    match kind {
        "file" => tar.file(path, 0o640, content),
        "dir" => {
            tar.dir(path, 0o750)?;
            tar.file(format!("{path}/{content}"), 0o600, content)
        }
        "link" => tar.symlink(path, format!("target/{content}")),
        "fifo" => tar.fifo(path, 0o620),
        "null" => tar.character_device(path, 0o606, 1, 3),
        _ => Ok(()),
    }
}

fn changes(tar: &mut LayerTar) -> Result<()> {
    tar.mtime(1_735_689_700);
    tar.dir("changed", 0o711)?;
    for before in KINDS {
        for after in KINDS {
            let path = format!("changed/{before}-{after}");
            match (before, after) {
                ("gone", "gone") | (_, "gone") => tar.whiteout(&path)?,
                // A directory on a directory would merge; here it replaces it.
                ("dir", "dir") => {
                    make(tar, after, &path, "upper")?;
                    tar.opaque(&path)?;
                }
                _ => make(tar, after, &path, "upper")?,
            }
        }
    }
    tar.dir("links", 0o755)?;
    tar.whiteout(LINKED[1])?;
    tar.dir("names", 0o755)?;
    for name in names().into_iter().step_by(2).filter(|name| name.as_os_str().len() < 200) {
        tar.whiteout(Path::new("names").join(&name))?;
        tar.whiteout(Path::new("names").join(with_prefix("dir-", &name)))?;
    }
    let mut directories = long_path(UNPACKABLE);
    let file = directories.pop().context("never empty")?;
    directories.iter().try_for_each(|directory| tar.dir(directory, 0o700))?;
    tar.whiteout(file.with_file_name("not-there"))?;
    tar.file(file.with_file_name("g"), 0o644, "beside it")?;
    tar.dir("emptied", 0o755)?;
    tar.opaque("emptied")?;
    tar.dir("kept", 0o755)?;
    tar.dir("kept/chmod", 0o1770)?;
    tar.owner(Owner { uid: 7, gid: 8 });
    tar.dir("kept/chown", 0o755)?;
    tar.owner(Owner::default()).mtime(77);
    tar.dir("kept/touched", 0o755)?;
    tar.whiteout("kept/nothing-of-this-name")
}

fn changes_back(tar: &mut LayerTar) -> Result<()> {
    tar.mtime(1_735_689_800);
    tar.dir("changed", 0o755)?;
    for (before, after) in [("dir", "gone"), ("file", "gone"), ("dir", "file"), ("file", "dir"), ("dir", "dir")] {
        make(tar, before, &format!("changed/{before}-{after}"), "again")?;
    }
    tar.dir("links", 0o755)?;
    tar.file(LINKED[1], 0o600, "a file of its own")?;
    tar.whiteout(LINKED[0])?;
    tar.dir("emptied", 0o700)?;
    tar.dir("emptied/dir", 0o700)?;
    tar.file("emptied/dir/new", 0o644, "new")
}

fn empty(_: &mut LayerTar) -> Result<()> {
    Ok(())
}

/// All of this, with empty layers in between and two layers that appear twice.
pub(super) fn corners() -> Result<Image> {
    ImageBuilder::new("demo/corners", "1")
        .layer(tree)
        .layer(changes)
        .layer(empty)
        .layer(changes_back)
        .layer(empty)
        .layer(changes)
        .build(&image_cache()?)
}

/// 127 layers, each with additions, changes, deletions and opaque directories.
pub(super) fn many_layers() -> Result<Image> {
    let mut builder = ImageBuilder::new("demo/many-layers", "1");
    for number in 0..127 {
        builder = builder.layer(|tar| {
            tar.mtime(1_735_689_600 + number);
            tar.dir("all", 0o755)?;
            tar.file(format!("all/{number}"), 0o644, number.to_string())?;
            tar.file("all/last", 0o644, number.to_string())?;
            if number % 3 == 2 {
                tar.whiteout(format!("all/{}", number - 1))?;
            }
            tar.dir("only", 0o700 + (number as u32 & 7))?;
            tar.opaque("only")?;
            tar.file(format!("only/{number}"), 0o644, "")
        });
    }
    builder.build(&image_cache()?)
}

/// One file in the deepest possible directory.
pub(super) fn longest_path() -> Result<Image> {
    ImageBuilder::new("demo/longest-path", "1").layer(|tar| long_file(tar, 4000)).build(&image_cache()?)
}

/// A layer that deletes a directory and adds one with the same name.
pub(super) fn deleted_and_made_anew() -> Result<Image> {
    ImageBuilder::new("demo/made-anew", "1")
        .layer(|tar| {
            tar.dir("dir", 0o755)?;
            tar.file("dir/old", 0o644, "old")
        })
        .layer(|tar| {
            tar.whiteout("dir")?;
            tar.dir("dir", 0o755)?;
            tar.file("dir/new", 0o644, "new")
        })
        .build(&image_cache()?)
}

/// Layers without entries for parent directories, or with one for the root.
pub(super) fn unnamed_directories() -> Result<Image> {
    ImageBuilder::new("demo/unnamed", "1")
        .layer(|tar| {
            tar.owner(Owner { uid: 5, gid: 6 });
            tar.dir("./", 0o711)?;
            tar.dir("named", 0o700)?;
            tar.file("named/lower", 0o644, "lower")
        })
        .layer(|tar| {
            tar.file("named/upper", 0o644, "upper")?;
            tar.file("new/upper", 0o644, "upper")
        })
        .build(&image_cache()?)
}
