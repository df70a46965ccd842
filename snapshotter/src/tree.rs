//! Going through a directory tree by file descriptors, so that no path is too long for the kernel and no symbolic link
//! leads out of the tree.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// Maximum depth of a tree. Every level keeps a descriptor open, and the unit limits these to 16384. Paths of 4 KiB can have
/// up to 2048 levels.
pub const DEPTH_LIMIT: usize = 512;

/// Opens the top of a tree.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory in a directory, never through a symbolic link.
pub(crate) fn open_child(parent: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Calls `visit` for each entry of a directory, with the type that the listing gives.
pub(crate) fn for_each_entry(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(&CStr, FileType) -> io::Result<()>,
) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(entry.file_name(), entry.file_type())?;
        }
    }
    Ok(())
}

/// Whether an entry is a directory. Some file systems list entries without their types.
pub(crate) fn is_directory(parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<bool> {
    let found = match listed {
        FileType::Unknown => FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
        known => known,
    };
    Ok(found == FileType::Directory)
}

/// Refuses a directory at this depth if the tree is too deep.
pub(crate) fn check_depth(depth: usize) -> io::Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(io::Error::other(format!("directories are nested deeper than {DEPTH_LIMIT} levels")));
    }
    Ok(())
}
