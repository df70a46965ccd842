//! Lists the entries of a root file system and writes parts of it into a layer.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::image::Digest;
use nix::sys::stat::{major, minor};

use super::{EPOCH, LayerTar, Owner};

/// Directories whose content is not put into an image: state of the building machine, and documentation.
const EMPTIED: &[&str] = &[
    "debootstrap",
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache",
    "var/lib/apt/lists",
    "var/log",
    "var/tmp",
];

/// One entry of a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    mode: u32,
    owner: Owner,
    mtime: u64,
}

/// Kind and content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File { content: Digest },
    Symlink(PathBuf),
    Device { block: bool, major: u32, minor: u32 },
    Fifo,
}

/// The entries of a root file system by their paths relative to it, parents before children.
pub(super) type Tree = BTreeMap<PathBuf, Entry>;

/// Reads the tree below `root`. Times since `started`, which no package has set, become [`EPOCH`]. Sockets are skipped.
pub(super) fn scan(root: &Path, started: u64) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let path = directory.join(entry?.file_name());
            let on_disk = root.join(&path);
            let metadata = fs::symlink_metadata(&on_disk)?;
            let Some(kind) = kind_of(&on_disk, &metadata).with_context(|| format!("cannot read {on_disk:?}"))? else {
                continue;
            };
            if kind == Kind::Directory && !EMPTIED.iter().any(|emptied| path == Path::new(emptied)) {
                directories.push(path.clone());
            }
            let seconds = metadata.mtime().max(0) as u64;
            // The time of a directory changes with its content.
            let packaged = seconds < started && kind != Kind::Directory;
            let mtime = if packaged { seconds } else { EPOCH };
            let owner = Owner { uid: metadata.uid(), gid: metadata.gid() };
            tree.insert(path, Entry { kind, mode: metadata.mode() & 0o7777, owner, mtime });
        }
    }
    Ok(tree)
}

fn kind_of(path: &Path, metadata: &Metadata) -> Result<Option<Kind>> {
    let kind = metadata.file_type();
    let device =
        |block| Kind::Device { block, major: major(metadata.rdev()) as u32, minor: minor(metadata.rdev()) as u32 };
    Ok(Some(if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        Kind::File { content: Digest::sha256(&fs::read(path)?) }
    } else if kind.is_symlink() {
        Kind::Symlink(fs::read_link(path)?)
    } else if kind.is_char_device() || kind.is_block_device() {
        device(kind.is_block_device())
    } else if kind.is_fifo() {
        Kind::Fifo
    } else {
        return Ok(None);
    }))
}

/// Writes the entries of `paths` (in the order of `tree`) into `tar`; several names of one file become hard links.
pub(super) fn write_entries(
    tree: &Tree,
    root: &Path,
    selected: impl Fn(&Path) -> bool,
    tar: &mut LayerTar,
) -> Result<()> {
    let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for (path, entry) in tree.iter().filter(|(path, _)| selected(path)) {
        tar.owner(entry.owner).mtime(entry.mtime);
        match &entry.kind {
            Kind::Directory => tar.dir(path, entry.mode)?,
            Kind::Symlink(target) => tar.symlink(path, target)?,
            Kind::Fifo => tar.fifo(path, entry.mode)?,
            Kind::Device { block: true, major, minor } => tar.block_device(path, entry.mode, *major, *minor)?,
            Kind::Device { block: false, major, minor } => tar.character_device(path, entry.mode, *major, *minor)?,
            Kind::File { .. } => {
                let metadata = fs::symlink_metadata(root.join(path))?;
                let inode = (metadata.dev(), metadata.ino());
                match first_names.get(&inode) {
                    Some(first) if metadata.nlink() > 1 => tar.hardlink(path, first)?,
                    _ => {
                        first_names.insert(inode, path.clone());
                        tar.file(path, entry.mode, fs::read(root.join(path))?)?;
                    }
                }
            }
        }
    }
    Ok(())
}
