//! Making the companion directories of a published layer.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fsetxattr, futimens, makedev, mkdirat,
    mknodat,
};

use super::{WhiteoutDirectory, Whiteouts};
use crate::tree;

/// Fills the empty directory `root` so that it hides the plain files of the whiteouts in the layer below it.
pub fn fill_above(whiteouts: &Whiteouts, root: &Path) -> io::Result<()> {
    let mut open = OpenPath::new(root)?;
    for directory in &whiteouts.directories {
        let fd = open.enter(&directory.path, true)?;
        for name in &directory.hidden {
            whiteout(fd, name)?;
        }
    }
    // From the leaves up: making an entry changes the modification time of its directory.
    for directory in whiteouts.directories.iter().rev() {
        copy_attributes(directory, open.enter(&directory.path, false)?)?;
    }
    Ok(())
}

/// Fills the empty directory `root` so that it deletes what the layer above it deletes.
pub fn fill_below(whiteouts: &Whiteouts, root: &Path) -> io::Result<()> {
    let mut open = OpenPath::new(root)?;
    // A layer may delete a directory and have one with the same name. Then everything below it in the lower layers is gone already.
    let mut gone: HashSet<Vec<&[u8]>> = HashSet::new();
    for directory in &whiteouts.directories {
        let path: Vec<&[u8]> = directory.path.iter().map(Vec::as_slice).collect();
        if gone.contains(&path) || path.split_last().is_some_and(|(_, parent)| gone.contains(parent)) {
            gone.insert(path);
            continue;
        }
        gone.extend(directory.deleted.iter().map(|name| [path.as_slice(), &[name.as_slice()]].concat()));
        if !directory.deletes_anything() {
            continue;
        }
        let fd = open.enter(&directory.path, true)?;
        for name in &directory.deleted {
            whiteout(fd, name)?;
        }
        if directory.opaque {
            fsetxattr(fd, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Makes a whiteout of overlayfs: `name` does not exist, and overlayfs does not look further down.
fn whiteout(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(mknodat(parent, OsStr::from_bytes(name), FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?)
}

fn copy_attributes(directory: &WhiteoutDirectory, to: impl AsFd) -> io::Result<()> {
    let to = to.as_fd();
    fchown(to, Some(Uid::from_raw(directory.uid)), Some(Gid::from_raw(directory.gid)))?;
    fchmod(to, Mode::from_raw_mode(directory.mode))?;
    let time = Timespec { tv_sec: directory.mtime.0, tv_nsec: directory.mtime.1.into() };
    Ok(futimens(to, &Timestamps { last_access: time, last_modification: time })?)
}

/// A path of open directories. Going from one directory to the next opens only the part that differs.
struct OpenPath<'a> {
    root: OwnedFd,
    open: Vec<(&'a [u8], OwnedFd)>,
}

impl<'a> OpenPath<'a> {
    fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { root: tree::open(root)?, open: Vec::new() })
    }

    fn enter(&mut self, path: &'a [Vec<u8>], make: bool) -> io::Result<&OwnedFd> {
        let common = self.open.iter().zip(path).take_while(|((open, _), name)| open == name).count();
        self.open.truncate(common);
        for name in &path[common..] {
            let parent = self.open.last().map_or(&self.root, |(_, fd)| fd);
            let name_os = OsStr::from_bytes(name);
            if make {
                match mkdirat(parent, name_os, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let fd = tree::open_child(parent, name_os)?;
            self.open.push((name, fd));
        }
        Ok(self.open.last().map_or(&self.root, |(_, fd)| fd))
    }
}
