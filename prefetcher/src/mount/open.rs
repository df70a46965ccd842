//! Opens files that a bundle names below a mount, and nothing outside of it, whatever the bundle says.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use bundles::path::RootPath;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Opens `path` in the repository at `mount` for reading. Symbolic links are not followed. Blocks as long as the mount does.
pub fn open(mount: &Path, path: &RootPath) -> io::Result<File> {
    let root = File::open(mount)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    Ok(File::from(openat2(root.as_fd(), &path.as_bytes()[1..], how)?))
}

/// Opens a regular file that must have `size` bytes; with another size it is not the file that the bundle was built from.
pub fn open_sized(mount: &Path, path: &RootPath, size: u64) -> io::Result<File> {
    let file = open(mount, path)?;
    let found = file.metadata()?;
    if found.is_file() && found.len() == size {
        return Ok(file);
    }
    Err(io::Error::other(format!("the file has {} bytes, its object {size}", found.len())))
}
