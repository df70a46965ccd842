//! Reads all properties of a tree, with arbitrary names and paths of any length.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bundles::image::Digest;

/// Properties of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Type and permissions.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// Zero for directories, whose size depends on the file system.
    pub(super) size: u64,
    /// Number of a device.
    pub(super) device: u64,
    pub(super) modified: (i64, i64),
    /// Target of a symbolic link.
    pub(super) target: Option<PathBuf>,
    /// Digest of a file's content.
    pub(super) content: Option<Digest>,
    pub(super) attributes: BTreeMap<String, Vec<u8>>,
    /// Inode number, to find hard links.
    pub(super) inode: u64,
}

/// Properties by path; the root has the empty path.
pub(super) type Tree = BTreeMap<PathBuf, Seen>;

/// Reads `root` and everything below.
pub(super) fn look(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    tree.insert(PathBuf::new(), seen(root)?);
    directory(&File::open(root)?, Path::new(""), &mut tree)?;
    Ok(tree)
}

/// Reads an open directory through its descriptor, so that no path is too long.
fn directory(open: &File, path: &Path, tree: &mut Tree) -> Result<()> {
    let here = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    for entry in fs::read_dir(&here).with_context(|| format!("cannot list {path:?}"))? {
        let name = entry?.file_name();
        let (at, path) = (here.join(&name), path.join(&name));
        let seen = seen(&at).with_context(|| format!("cannot look at {path:?}"))?;
        let is_directory = fs::symlink_metadata(&at)?.is_dir();
        tree.insert(path.clone(), seen);
        if is_directory {
            directory(&File::open(&at)?, &path, tree)?;
        }
    }
    Ok(())
}

fn seen(path: &Path) -> Result<Seen> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let is_device = kind.is_block_device() || kind.is_char_device();
    let content = if kind.is_file() { Some(Digest::sha256(&fs::read(path)?)) } else { None };
    let mut attributes = BTreeMap::new();
    for name in xattr::list(path)? {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        attributes.insert(name.to_string_lossy().into_owned(), value);
    }
    Ok(Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        size: if kind.is_dir() { 0 } else { metadata.size() },
        device: if is_device { metadata.rdev() } else { 0 },
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        target: if kind.is_symlink() { Some(fs::read_link(path)?) } else { None },
        content,
        attributes,
        inode: metadata.ino(),
    })
}

/// The names of each file with several.
pub(super) fn hard_links(tree: &Tree) -> Vec<Vec<&Path>> {
    let mut names: BTreeMap<u64, Vec<&Path>> = BTreeMap::new();
    for (path, seen) in tree.iter().filter(|(_, seen)| seen.content.is_some()) {
        names.entry(seen.inode).or_default().push(path);
    }
    let mut groups: Vec<_> = names.into_values().filter(|names| names.len() > 1).collect();
    groups.sort();
    groups
}

/// The differences between two trees as text.
pub(super) fn differences(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let mut paths: Vec<_> = ours.keys().chain(theirs.keys()).collect();
    paths.sort();
    paths.dedup();
    let describe = |path: &Path| {
        let text = OsStr::as_bytes(path.as_os_str()).escape_ascii().to_string();
        if text.len() > 200 { format!("{}... ({} bytes)", &text[..60], path.as_os_str().len()) } else { text }
    };
    let mut found = Vec::new();
    for path in paths {
        match (ours.get(path), theirs.get(path)) {
            (Some(one), Some(other)) if one == other => {}
            (ours, theirs) => found.push(format!("{}\n  with us:   {ours:?}\n  with them: {theirs:?}", describe(path))),
        }
    }
    found
}
