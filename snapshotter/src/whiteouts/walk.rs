//! Finding the whiteouts of a layer by listing its directories.
//!
//! No file is opened, so nothing but the layer's catalog is needed. May take long, or for ever on a hung mount: run it
//! where that does no harm.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};

use super::{Examined, MarkedDirectory, Whiteouts};
use crate::usage::{DEPTH_LIMIT, open_directory, too_deep};

/// A layer with more whiteouts is refused, and so unpacked normally.
const WHITEOUT_LIMIT: usize = 200_000;

/// Looks through the layer at `layerfs`.
pub fn walk(layerfs: &Path) -> io::Result<Examined> {
    let root = openat(CWD, layerfs, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&root)?;
    let mut walk = Walk { path: Vec::new(), found: 0 };
    let directories = walk.directory(root)?;
    Ok(Examined { owner: (stat.st_uid, stat.st_gid), whiteouts: Whiteouts { directories } })
}

struct Walk {
    path: Vec<Vec<u8>>,
    found: usize,
}

impl Walk {
    /// The marked directories from `directory` on; none below the root if neither it nor any below has signs.
    fn directory(&mut self, directory: OwnedFd) -> io::Result<Vec<MarkedDirectory>> {
        if self.path.len() > DEPTH_LIMIT {
            return Err(too_deep());
        }
        let mut this = MarkedDirectory::default();
        let mut below = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if this.note(name.to_bytes(), self.path.is_empty()) {
                self.found += 1;
                if self.found > WHITEOUT_LIMIT {
                    return Err(io::Error::other(format!("more than {WHITEOUT_LIMIT} names that begin with .wh.")));
                }
            } else if is_directory(directory.as_fd(), name, entry.file_type())? {
                self.path.push(name.to_bytes().to_vec());
                below.append(&mut self.directory(open_directory(directory.as_fd(), name)?)?);
                self.path.pop();
            }
        }
        if this.hidden.is_empty() && below.is_empty() && !self.path.is_empty() {
            return Ok(below);
        }
        // The order of a listing is the file system's; ours must not be.
        this.hidden.sort_unstable();
        this.deleted.sort_unstable();
        let stat = fstat(&directory)?;
        this.path.clone_from(&self.path);
        this.mode = stat.st_mode & 0o7777;
        (this.uid, this.gid) = (stat.st_uid, stat.st_gid);
        this.mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
        let mut all = vec![this];
        all.append(&mut below);
        Ok(all)
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<bool> {
    Ok(match listed {
        FileType::Unknown => {
            FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) == FileType::Directory
        }
        known => known == FileType::Directory,
    })
}
