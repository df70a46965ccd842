//! Changes of a directory tree, and its listing for comparisons.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

/// One change. Paths are relative to the root.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes a file with this content and mode.
    File(&'static str, String, u32),
    /// Creates a directory with this mode.
    Dir(&'static str, u32),
    /// Removes a file or a whole directory.
    Remove(&'static str),
    /// Sets user and group to the same number.
    Chown(&'static str, u32),
    /// Renames the first path to the second.
    Rename(&'static str, &'static str),
    /// Makes the second path a hard link to the first.
    Link(&'static str, &'static str),
    /// Makes the second path a symbolic link to the first.
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

/// Applies the steps to the tree at `root`.
pub(crate) fn apply(steps: &[Step], root: &Path) {
    for step in steps {
        apply_step(step, root).unwrap_or_else(|error| panic!("{step:?}: {error}"));
    }
}

fn apply_step(step: &Step, root: &Path) -> std::io::Result<()> {
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
        Step::Remove(path) => {
            let is_directory = fs::symlink_metadata(at(path))?.is_dir();
            if is_directory { fs::remove_dir_all(at(path)) } else { fs::remove_file(at(path)) }
        }
        Step::Chown(path, id) => chown(at(path), Some(*id), Some(*id)),
        Step::Rename(from, to) => fs::rename(at(from), at(to)),
        Step::Link(from, to) => fs::hard_link(at(from), at(to)),
        Step::Symlink(target, path) => symlink(target, at(path)),
    }
}

/// Everything below `root` as `ls` and `cat` show it, without times. A hard link shows the first name of its file.
pub(crate) fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first = BTreeMap::new();
    list_below(root, Path::new(""), &mut first, &mut lines);
    lines
}

fn list_below(root: &Path, path: &Path, first: &mut BTreeMap<u64, String>, lines: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(root.join(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = path.join(name);
        let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
        let content = match metadata.file_type() {
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
        let owner = format!("{} {}", metadata.uid(), metadata.gid());
        lines.push(format!("{} {:o} {owner} {content}{same}", path.display(), metadata.mode()));
        if metadata.is_dir() {
            list_below(root, &path, first, lines);
        }
    }
}
