//! Deleting a directory tree of any depth and width.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;

use crate::tree::{self, Next, Visit};

/// Deletes the directory `path` and everything below. A missing one is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    let root = match tree::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        root => root?,
    };
    tree::walk(root, &mut Remove)?;
    // A listing may leave out entries while others are deleted.
    loop {
        match rustix::fs::rmdir(path) {
            Err(Errno::NOTEMPTY) => tree::walk(tree::open(path)?, &mut Remove)?,
            Err(Errno::NOENT) | Ok(()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Remove;

impl Visit for Remove {
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<Next> {
        if !tree::is_directory(parent, name, listed)? {
            return unlink(parent, name, AtFlags::empty());
        }
        // Saves opening an empty directory.
        unlink(parent, name, AtFlags::REMOVEDIR)
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Next> {
        unlink(parent, name, AtFlags::REMOVEDIR)
    }
}

/// Deletes an entry; a directory that is not empty must be entered first.
fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Next> {
    match unlinkat(parent, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(Next::Continue),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(Next::Enter),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::test_trees::make_deep;

    #[test]
    fn trees_of_any_depth_and_width_are_deleted() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::write(outside.path().join("kept"), "").unwrap();
        fs::create_dir(&root).unwrap();
        for n in 0..500 {
            fs::create_dir_all(root.join(format!("wide/{n}/x"))).unwrap();
            fs::write(root.join(format!("wide/{n}/file")), "").unwrap();
        }
        symlink("../kept", root.join("link")).unwrap();
        symlink(outside.path(), root.join("wide/link")).unwrap();
        make_deep(&root, 1_500);
        remove(&root).unwrap();
        assert!(!root.exists() && outside.path().join("kept").exists());
        remove(&root).unwrap();
    }
}
