//! Opens files that a bundle names below a mount, and nothing outside of it, whatever the bundle says.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bundles::path::RootPath;
use node::below::{Links, Resolved, resolve};

/// Opens the file or directory `path` in the repository at `mount` for reading. Symbolic links are not followed. Blocks as long as the
/// mount does.
pub fn open(mount: &Path, path: &RootPath) -> io::Result<File> {
    find(mount, path)?.open()
}

/// Opens a regular file that must have `size` bytes; with another size it is not the file that the bundle was built from.
pub fn open_sized(mount: &Path, path: &RootPath, size: u64) -> io::Result<File> {
    let found = find(mount, path)?;
    let metadata = found.metadata();
    if metadata.is_file() && metadata.len() == size {
        return found.open();
    }
    Err(io::Error::other(format!("the file has {} bytes, its object {size}", metadata.len())))
}

fn find(mount: &Path, path: &RootPath) -> io::Result<Resolved> {
    resolve(mount, Path::new(OsStr::from_bytes(path.as_bytes())), Links::Refuse)
}
