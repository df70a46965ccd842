//! Disk usage of a directory, counted as containerd counts it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use super::Usage;
use crate::tree;

/// Disk usage of `path` and everything below it. A file that is deleted during the count may be left out.
pub fn measure(path: &Path) -> io::Result<Usage> {
    let mut count = Count::default();
    let root = tree::open(path)?;
    count.add(&fstat(&root)?);
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
    fn add(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory || stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
            self.usage.inodes += 1;
            self.usage.size += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
    }

    fn directory(&mut self, directory: OwnedFd, depth: usize) -> io::Result<()> {
        tree::check_depth(depth)?;
        let parent = directory.as_fd();
        tree::for_each_entry(parent, |name, _| {
            let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.add(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match tree::open_child(parent, name) {
                    Ok(child) => self.directory(child, depth + 1)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

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
}
