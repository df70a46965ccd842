//! Disk usage of a directory, counted as containerd counts it.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use super::Usage;
use crate::tree::{self, Next, Visit};

/// Disk usage of `path` and everything below it. A file that is deleted during the count may be left out.
pub fn measure(path: &Path) -> io::Result<Usage> {
    let mut count = Count::default();
    let root = tree::open(path)?;
    count.add(&fstat(&root)?);
    tree::walk(root, &mut count)?;
    Ok(count.usage)
}

/// Hard-linked files that are remembered. Beyond that, each link of a file counts: a container can make more links than fit into memory.
const MAX_SEEN: usize = 1_000_000;

#[derive(Default)]
struct Count {
    usage: Usage,
    /// Files with more than one link, by device and inode.
    seen: HashSet<(u64, u64)>,
}

impl Count {
    fn add(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink == 1 || self.is_new(stat) {
            self.usage.inodes += 1;
            self.usage.size += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
    }

    fn is_new(&mut self, stat: &Stat) -> bool {
        let file = (stat.st_dev, stat.st_ino);
        if self.seen.len() < MAX_SEEN { self.seen.insert(file) } else { !self.seen.contains(&file) }
    }
}

impl Visit for Count {
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, _listed: FileType) -> io::Result<Next> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Next::Continue),
            stat => stat?,
        };
        self.add(&stat);
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(if is_directory { Next::Enter } else { Next::Continue })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::io::Write;

    use rustix::fs::{Mode, OFlags, openat};

    use super::*;
    use crate::snapshots::remove::remove;
    use crate::test_trees::make_deep;

    #[test]
    fn hard_links_count_once_and_symbolic_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), vec![1; 100_000]).unwrap();
        let before = measure(&root).unwrap();
        assert_eq!(before.inodes, 3);
        assert!(before.size >= 100_000, "{before:?}");
        fs::hard_link(root.join("sub/file"), root.join("link")).unwrap();
        assert_eq!(measure(&root).unwrap(), before);
        std::os::unix::fs::symlink(directory.path(), root.join("out")).unwrap();
        assert_eq!(measure(&root).unwrap().inodes, 4);
        assert!(measure(&root.join("missing")).is_err());
    }

    #[test]
    fn depth_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let bottom = make_deep(directory.path(), 2_000);
        let file = openat(&bottom, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
        fs::File::from(file).write_all(&vec![1; 1 << 20]).unwrap();
        let usage = measure(directory.path()).unwrap();
        assert_eq!(usage.inodes, 1 + 2_000 + 1);
        assert!(usage.size >= 1 << 20, "{usage:?}");
        remove(&directory.path().join("d")).unwrap();
    }
}
