//! Finding the whiteouts of a layer by listing its directories.
//!
//! No file is opened, so only the layer's catalog is needed. A walk takes long in a large layer and does not end in a hung
//! mount: run it behind the mount guard.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::fstat;

use super::{LayerScan, WhiteoutDirectory, Whiteouts};
use crate::tree;

/// A layer with more whiteouts is refused, and containerd unpacks it.
const WHITEOUT_LIMIT: usize = 200_000;

/// Lists the layer at `layerfs`.
pub fn walk(layerfs: &Path) -> io::Result<LayerScan> {
    let root = tree::open(layerfs)?;
    let stat = fstat(&root)?;
    let mut walk = Walk { path: Vec::new(), found: 0 };
    let directories = walk.directory(root)?;
    Ok(LayerScan { owner: (stat.st_uid, stat.st_gid), whiteouts: Whiteouts { directories } })
}

struct Walk {
    path: Vec<Vec<u8>>,
    found: usize,
}

impl Walk {
    /// The directories with whiteouts at and below `directory`, parents first. The layer's root is always one of them.
    fn directory(&mut self, directory: OwnedFd) -> io::Result<Vec<WhiteoutDirectory>> {
        tree::check_depth(self.path.len())?;
        let mut this = WhiteoutDirectory { path: self.path.clone(), ..WhiteoutDirectory::default() };
        let mut below = Vec::new();
        let parent = directory.as_fd();
        tree::for_each_entry(parent, |name, listed| {
            if this.add_if_whiteout(name.to_bytes()) {
                self.found += 1;
                if self.found > WHITEOUT_LIMIT {
                    return Err(io::Error::other(format!("the layer has more than {WHITEOUT_LIMIT} whiteouts")));
                }
            } else if tree::is_directory(parent, name, listed)? {
                self.path.push(name.to_bytes().to_vec());
                below.append(&mut self.directory(tree::open_child(parent, name)?)?);
                self.path.pop();
            }
            Ok(())
        })?;
        if this.hidden.is_empty() && below.is_empty() && !self.path.is_empty() {
            return Ok(below);
        }
        // The file system decides the order of a listing; ours must be the same on every node.
        this.hidden.sort_unstable();
        this.deleted.sort_unstable();
        let stat = fstat(&directory)?;
        this.mode = stat.st_mode & 0o7777;
        this.uid = stat.st_uid;
        this.gid = stat.st_gid;
        this.mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
        let mut directories = vec![this];
        directories.append(&mut below);
        Ok(directories)
    }
}
