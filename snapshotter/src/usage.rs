//! Disk use of a directory, counted as containerd does.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use crate::snapshot::Usage;

/// Deeper trees are refused: every level keeps a file open. Linux paths of 4 KiB reach 2048 levels at most.
pub const DEPTH_LIMIT: usize = 512;

/// The use of all below `path`, and of `path` itself. A file that goes away meanwhile counts as never having been there.
pub fn of_directory(path: &Path) -> io::Result<Usage> {
    let mut count = Count::default();
    let root = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    count.add(&rustix::fs::fstat(&root)?);
    count.directory(root, 0)?;
    Ok(count.usage)
}

#[derive(Default)]
struct Count {
    usage: Usage,
    /// Files with more than one link, by device and inode.
    seen: HashSet<(u64, u64)>,
}

impl Count {
    fn add(&mut self, stat: &rustix::fs::Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
            self.usage.inodes += 1;
            self.usage.size += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
    }

    fn directory(&mut self, directory: OwnedFd, depth: usize) -> io::Result<()> {
        if depth > DEPTH_LIMIT {
            return Err(too_deep());
        }
        for_each_entry(directory.as_fd(), |parent, name| {
            let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.add(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match open_directory(parent, name) {
                    Ok(child) => self.directory(child, depth + 1)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }
}

/// Calls `visit` for each entry but `.` and `..`.
pub(crate) fn for_each_entry(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            visit(directory, name)?;
        }
    }
    Ok(())
}

/// Opens a directory in a directory, never through a symbolic link.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// The tree is deeper than [`DEPTH_LIMIT`].
pub(crate) fn too_deep() -> io::Error {
    io::Error::other(format!("directories nested deeper than {DEPTH_LIMIT} levels"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn links_count_once_and_symbolic_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), vec![1; 100_000]).unwrap();
        let one = of_directory(&root).unwrap();
        assert_eq!(one.inodes, 3);
        assert!(one.size >= 100_000, "{one:?}");
        fs::hard_link(root.join("sub/file"), root.join("link")).unwrap();
        assert_eq!(of_directory(&root).unwrap(), one);
        std::os::unix::fs::symlink(directory.path(), root.join("out")).unwrap();
        assert_eq!(of_directory(&root).unwrap().inodes, 4);
        assert!(of_directory(&root.join("missing")).is_err());
    }
}
