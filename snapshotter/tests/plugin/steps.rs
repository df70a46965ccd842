//! Changes of a tree, and the look of one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

/// One change. Paths are relative to the root.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes a file of this content and mode.
    File(&'static str, String, u32),
    /// Makes a directory.
    Dir(&'static str, u32),
    /// Removes whatever is there, with all below.
    Remove(&'static str),
    /// Gives user and group.
    Chown(&'static str, u32),
    /// Moves.
    Rename(&'static str, &'static str),
    /// Gives a file a second name, the latter.
    Link(&'static str, &'static str),
    /// Makes a symbolic link at the latter.
    Symlink(&'static str, &'static str),
}

/// A file of mode 0644.
pub(crate) fn file(path: &'static str, content: &str) -> Step {
    Step::File(path, content.to_owned(), 0o644)
}

/// A directory of mode 0700.
pub(crate) fn dir(path: &'static str) -> Step {
    Step::Dir(path, 0o700)
}

/// Changes the tree at `root`.
pub(crate) fn apply(steps: &[Step], root: &Path) {
    for step in steps {
        one(step, root).unwrap_or_else(|error| panic!("{step:?}: {error}"));
    }
}

fn one(step: &Step, root: &Path) -> std::io::Result<()> {
    let at = |path: &str| root.join(path);
    match step {
        Step::File(path, content, mode) => {
            fs::File::options()
                .create(true)
                .write(true)
                .truncate(true)
                .open(at(path))?
                .write_all(content.as_bytes())?;
            fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
        }
        Step::Dir(path, mode) => {
            fs::DirBuilder::new().mode(*mode).create(at(path))?;
            fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
        }
        Step::Remove(path) => match fs::symlink_metadata(at(path))?.is_dir() {
            true => fs::remove_dir_all(at(path)),
            false => fs::remove_file(at(path)),
        },
        Step::Chown(path, id) => chown(at(path), Some(*id), Some(*id)),
        Step::Rename(from, to) => fs::rename(at(from), at(to)),
        Step::Link(from, to) => fs::hard_link(at(from), at(to)),
        Step::Symlink(target, path) => symlink(target, at(path)),
    }
}

/// Everything below `root` as `ls` and `cat` tell it, times apart; names of one file are told by the first of them.
pub(crate) fn look(root: &Path) -> Vec<String> {
    let (mut lines, mut first) = (Vec::new(), BTreeMap::new());
    below(root, Path::new(""), &mut first, &mut lines);
    lines
}

fn below(root: &Path, path: &Path, first: &mut BTreeMap<u64, String>, lines: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root.join(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = path.join(name);
        let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
        let what = match metadata.file_type() {
            kind if kind.is_dir() => "directory".to_owned(),
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(root.join(&path)).unwrap().display()),
            kind if kind.is_file() => format!("{:?}", fs::read_to_string(root.join(&path)).unwrap()),
            kind => format!("other, fifo {}", kind.is_fifo()),
        };
        let same = match first.get(&metadata.ino()) {
            Some(other) => format!(" = {other}"),
            None => String::new(),
        };
        first.entry(metadata.ino()).or_insert_with(|| path.display().to_string());
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        lines.push(format!("{} {mode:o} {uid} {gid} {what}{same}", path.display()));
        if metadata.is_dir() {
            below(root, &path, first, lines);
        }
    }
}
