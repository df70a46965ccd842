//! Going through a directory tree by file descriptors, so that no path is too long for the kernel and no symbolic link
//! leads out of the tree.
//!
//! A container makes trees of any depth and width, and may change them during the walk. So [`walk`] does not recurse, keeps at most
//! [`MAX_OPEN`] directories open, and keeps no list of entries: it goes back up by `..` and continues where it was in the listing.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

/// Directories that a walk keeps open: the root and the innermost ones.
const MAX_OPEN: usize = 32;
/// How often a walk finds its way back from the root after somebody moved a directory that it was in. After that, it leaves out the rest
/// of such directories, or a container could keep the walk busy for ever.
const MAX_SEARCHES: usize = 64;

/// What a walk does with the entries of a tree.
pub(crate) trait Visit {
    /// The walk is in a directory whose entries follow.
    fn enter(&mut self, _directory: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Visits an entry, with the type that the listing gives. Returns whether to go into it.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<Next>;

    /// All entries of the directory `name` in `parent` were visited.
    fn leave(&mut self, _parent: BorrowedFd<'_>, _name: &CStr) -> io::Result<Next> {
        Ok(Next::Continue)
    }
}

/// How a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Into the directory that was just visited.
    Enter,
    /// To the next entry.
    Continue,
}

/// Opens the top of a tree.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory in a directory, never through a symbolic link.
pub(crate) fn open_child(parent: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(open_directory(parent, name)?)
}

fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Whether an entry is a directory. Some file systems list entries without their types.
pub(crate) fn is_directory(parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<bool> {
    let found = match listed {
        FileType::Unknown => FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
        known => known,
    };
    Ok(found == FileType::Directory)
}

/// Visits everything below the directory `root`, each directory before its entries. What vanishes during the walk is left out.
pub(crate) fn walk(root: OwnedFd, visit: &mut impl Visit) -> io::Result<()> {
    let mut way = Way { levels: Vec::new(), searches: 0 };
    way.push(CString::default(), root, visit)?;
    while let Some(level) = way.levels.last_mut() {
        match level.next()? {
            Some((name, listed)) => {
                if visit.entry(level.directory()?, &name, listed)? == Next::Enter {
                    way.enter(name, visit)?;
                }
            }
            None => way.leave(visit)?,
        }
    }
    Ok(())
}

/// A directory on the way from the root of a walk to where it is.
struct Level {
    name: CString,
    /// Device and inode.
    identity: (u64, u64),
    /// Where its listing continues.
    position: i64,
    /// Closed while the walk is far below.
    listing: Option<Dir>,
}

impl Level {
    fn directory(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.listing.as_ref().ok_or(Errno::BADF)?.fd()?)
    }

    fn next(&mut self) -> io::Result<Option<(CString, FileType)>> {
        let listing = self.listing.as_mut().ok_or(Errno::BADF)?;
        loop {
            let entry = match listing.read().transpose() {
                Ok(Some(entry)) => entry,
                // The directory was deleted.
                Ok(None) | Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.position = entry.offset();
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Ok(Some((entry.file_name().to_owned(), entry.file_type())));
            }
        }
    }

    /// Lists on from where the listing was, in `directory`.
    fn reopen(&mut self, directory: OwnedFd) -> io::Result<()> {
        let mut listing = Dir::new(directory)?;
        listing.seek(self.position)?;
        self.listing = Some(listing);
        Ok(())
    }
}

/// The directories that lead to where a walk is, the root first.
struct Way {
    levels: Vec<Level>,
    searches: usize,
}

impl Way {
    fn push(&mut self, name: CString, directory: OwnedFd, visit: &mut impl Visit) -> io::Result<()> {
        visit.enter(directory.as_fd())?;
        let identity = identity(&directory)?;
        let level = Level { name, identity, position: 0, listing: Some(Dir::new(directory)?) };
        self.levels.push(level);
        // The root stays open: the way back can always begin there.
        if let Some(far) = self.levels.len().checked_sub(MAX_OPEN).filter(|far| *far > 0) {
            self.levels[far].listing = None;
        }
        Ok(())
    }

    /// Goes into the directory `name` of the current one.
    fn enter(&mut self, name: CString, visit: &mut impl Visit) -> io::Result<()> {
        let Some(parent) = self.levels.last() else { return Ok(()) };
        match open_directory(parent.directory()?, &name) {
            Ok(directory) => self.push(name, directory, visit),
            // It vanished, or something else has its name now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes back to the parent of the current directory.
    fn leave(&mut self, visit: &mut impl Visit) -> io::Result<()> {
        let Some(done) = self.levels.pop() else { return Ok(()) };
        if self.levels.last().is_some_and(|parent| parent.listing.is_none()) {
            let up = open_directory(done.directory()?, c"..");
            self.resume(up.ok())?;
        }
        let Some(parent) = self.levels.last() else { return Ok(()) };
        match visit.leave(parent.directory()?, &done.name)? {
            Next::Continue => Ok(()),
            Next::Enter => self.enter(done.name, visit),
        }
    }

    /// Continues in the innermost directory, which is `up` unless somebody moved the directory that the walk comes from.
    fn resume(&mut self, up: Option<OwnedFd>) -> io::Result<()> {
        let Some(here) = self.levels.last_mut() else { return Ok(()) };
        if let Some(directory) = up
            && identity(&directory)? == here.identity
        {
            return here.reopen(directory);
        }
        self.searches += 1;
        let found = if self.searches <= MAX_SEARCHES { self.search()? } else { None };
        match (found, self.levels.last_mut()) {
            (Some(directory), Some(here)) => here.reopen(directory),
            _ => {
                // Everything on the way is left out, except what is open anyway.
                while self.levels.last().is_some_and(|level| level.listing.is_none()) {
                    self.levels.pop();
                }
                Ok(())
            }
        }
    }

    /// Opens the innermost directory by its names from the root on; `None` if it is not there any more.
    fn search(&self) -> io::Result<Option<OwnedFd>> {
        let Some((root, below)) = self.levels.split_first() else { return Ok(None) };
        let mut directory = root.directory()?.try_clone_to_owned()?;
        for level in below {
            match open_directory(&directory, &level.name) {
                Ok(found) if identity(&found)? == level.identity => directory = found,
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(directory))
    }
}

fn identity(directory: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use rustix::fs::mkdirat;

    use super::*;
    use crate::test_trees::make_deep;

    /// Counts the visits of each name, and calls `at_trigger` at the entry `trigger`.
    struct Names<F> {
        seen: BTreeMap<String, usize>,
        most_open: usize,
        at_trigger: F,
    }

    impl<F: FnMut()> Visit for Names<F> {
        fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<Next> {
            let text = name.to_str().unwrap().to_owned();
            if text == "trigger" {
                (self.at_trigger)();
            }
            *self.seen.entry(text).or_default() += 1;
            self.most_open = self.most_open.max(std::fs::read_dir("/proc/self/fd").unwrap().count());
            Ok(if is_directory(parent, name, listed)? { Next::Enter } else { Next::Continue })
        }
    }

    fn names(root: &Path, at_trigger: impl FnMut()) -> BTreeMap<String, usize> {
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut names = Names { seen: BTreeMap::new(), most_open: 0, at_trigger };
        walk(open(root).unwrap(), &mut names).unwrap();
        // Other tests of this process open files as well.
        assert!(names.most_open < before + MAX_OPEN + 64, "{} files open", names.most_open);
        names.seen
    }

    #[test]
    fn every_entry_of_a_deep_and_wide_tree_is_visited_once() {
        let root = tempfile::tempdir().unwrap();
        let bottom = make_deep(root.path(), 1_500);
        for n in 0..300 {
            mkdirat(&bottom, format!("b{n}"), Mode::from_raw_mode(0o755)).unwrap();
            std::fs::create_dir_all(root.path().join(format!("d/d/e{n}/f"))).unwrap();
        }
        let seen = names(root.path(), || ());
        assert_eq!(seen.len(), 1 + 300 + 300 + 1);
        assert_eq!((seen["d"], seen["f"]), (1_500, 300));
        assert!(seen.iter().all(|(name, count)| *count == 1 || ["d", "f"].contains(&name.as_str())), "{seen:?}");
        crate::snapshots::remove::remove(&root.path().join("d")).unwrap();
    }

    #[test]
    fn a_directory_that_moves_during_the_walk_does_not_lead_out_of_the_tree() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(outside.path().join("other/secret")).unwrap();
        std::fs::create_dir(&root).unwrap();
        let bottom = make_deep(&root, MAX_OPEN * 3);
        mkdirat(&bottom, "trigger", Mode::from_raw_mode(0o755)).unwrap();
        std::fs::create_dir(root.join("after")).unwrap();
        // Cut the tree below its tenth level: `..` of the eleventh is then outside of the root.
        let middle = ["d"; 11].iter().collect::<std::path::PathBuf>();
        let (from, to) = (root.join(middle), outside.path().join("other/moved"));
        let seen = names(&root, || std::fs::rename(&from, &to).unwrap());
        assert!(!seen.contains_key("secret") && seen["after"] == 1, "{seen:?}");
    }
}
