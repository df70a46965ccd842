//! Publishing into a directory.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Content, PublishError, entries};
use crate::bundle::Bundle;
use crate::file::{self, FileError};
use crate::layout::bundle_path;
use crate::pack::PackFile;

/// Writes `bundle` and `packs` below `tree`, the root of a repository open for writing (or a directory to be
/// copied there), and returns the bundle's path. An older bundle of the same image is replaced.
pub fn publish(bundle: &Bundle, tree: &Path, packs: &[PathBuf]) -> Result<PathBuf, PublishError> {
    let packs = PackFile::open_all(packs)?;
    write(bundle, tree, &packs)?;
    Ok(tree.join(bundle_path(&bundle.image.chain_id)))
}

/// As [`publish`], with packs that are checked already.
pub(super) fn write(bundle: &Bundle, tree: &Path, packs: &[PackFile]) -> Result<(), PublishError> {
    let io = |path: &Path, source| FileError::Io { path: path.to_owned(), source };
    if !tree.is_dir() {
        let source = io::Error::new(io::ErrorKind::NotADirectory, "the repository's root directory does not exist");
        return Err(io(tree, source).into());
    }
    for entry in entries(bundle, packs)? {
        let path = tree.join(&entry.path);
        let directory = path.parent().unwrap_or(tree);
        std::fs::create_dir_all(directory).map_err(|e| io(directory, e))?;
        match entry.content {
            Content::Bytes(bytes) => file::write(&path, Ok(bytes))?,
            Content::Pack(pack) => file::copy(pack.path(), &path)?,
            Content::Link(target) => replace_link(&target, &path).map_err(|e| io(&path, e))?,
        }
    }
    Ok(())
}

/// Points `link` to `target`, atomically for readers.
fn replace_link(target: &str, link: &Path) -> io::Result<()> {
    let temporary = link.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(target, &temporary)?;
    std::fs::rename(&temporary, link)
}
