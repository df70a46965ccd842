//! Finding the whiteouts of a layer by listing its directories.
//!
//! No file is opened, so only the layer's catalog is needed. A walk takes long in a large layer and does not end in a hung
//! mount: run it behind the mount guard.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat};

use super::{LayerScan, MAX_DEPTH, WhiteoutDirectory, Whiteouts};
use crate::tree::{self, Next, Visit};

/// A layer with more whiteouts is refused, and containerd unpacks it.
const MAX_WHITEOUTS: usize = 200_000;
/// Most names in the paths of all directories with whiteouts, which bounds the memory that a layer takes.
const MAX_NAMES: usize = 1_000_000;

/// Lists the layer at `layerfs`.
pub fn walk(layerfs: &Path) -> io::Result<LayerScan> {
    let root = tree::open(layerfs)?;
    let stat = fstat(&root)?;
    let mut walk = Walk::default();
    tree::walk(root, &mut walk)?;
    let mut directories = walk.directories;
    for directory in &mut directories {
        // The file system decides the order of a listing; ours must be the same on every node.
        directory.hidden.sort_unstable();
        directory.deleted.sort_unstable();
    }
    let owner = (stat.st_uid, stat.st_gid);
    Ok(LayerScan { owner, whiteouts: Whiteouts { directories }, is_from_bundle: false, diff_id: None })
}

#[derive(Default)]
struct Walk {
    /// The current directory and those above it, the layer's root first.
    open: Vec<Open>,
    /// The layer's root, the directories with whiteouts and those that lead there, parents first.
    directories: Vec<WhiteoutDirectory>,
    /// The directory that is entered next.
    next: Vec<u8>,
    whiteouts: usize,
    names: usize,
}

struct Open {
    name: Vec<u8>,
    /// Without path and whiteouts.
    attributes: WhiteoutDirectory,
    /// Its place in the result, once it is known to belong there.
    index: Option<usize>,
}

impl Walk {
    /// The current directory in the result; it and those above it are added.
    fn current(&mut self) -> io::Result<&mut WhiteoutDirectory> {
        let Self { open, directories, names, .. } = self;
        if open.len() > MAX_DEPTH + 1 {
            return Err(io::Error::other(format!("the layer has whiteouts more than {MAX_DEPTH} levels deep")));
        }
        let mut last = 0;
        for depth in 0..open.len() {
            last = match open[depth].index {
                Some(index) => index,
                None => {
                    *names += depth;
                    if *names > MAX_NAMES {
                        return Err(io::Error::other("the paths of the layer's whiteouts are too long together"));
                    }
                    let path = open[1..=depth].iter().map(|directory| directory.name.clone()).collect();
                    directories.push(WhiteoutDirectory { path, ..open[depth].attributes.clone() });
                    open[depth].index = Some(directories.len() - 1);
                    directories.len() - 1
                }
            };
        }
        Ok(&mut directories[last])
    }
}

impl Visit for Walk {
    fn enter(&mut self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let stat = fstat(directory)?;
        let attributes = WhiteoutDirectory {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            ..WhiteoutDirectory::default()
        };
        self.open.push(Open { name: std::mem::take(&mut self.next), attributes, index: None });
        if self.open.len() == 1 {
            self.current()?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> io::Result<Next> {
        if super::is_special(name.to_bytes(), self.open.len() == 1) {
            self.whiteouts += 1;
            if self.whiteouts > MAX_WHITEOUTS {
                return Err(io::Error::other(format!("the layer has more than {MAX_WHITEOUTS} whiteouts")));
            }
            self.current()?.add_if_whiteout(name.to_bytes());
            return Ok(Next::Continue);
        }
        if !tree::is_directory(parent, name, listed)? {
            return Ok(Next::Continue);
        }
        self.next = name.to_bytes().to_vec();
        Ok(Next::Enter)
    }

    fn leave(&mut self, _parent: BorrowedFd<'_>, _name: &CStr) -> io::Result<Next> {
        self.open.pop();
        Ok(Next::Continue)
    }
}
