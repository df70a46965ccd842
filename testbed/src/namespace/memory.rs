//! Directories of a site that are in memory.
//!
//! On a disk, what an earlier measurement left to be written or has just deleted slows down the next one: ext4 takes no inode
//! again that was freed in the last minutes, and searches past all of them for each new file.

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::SiteDirectory;

/// A directory on a file system of its own in memory. Dropped, it and its name are gone.
#[derive(Debug)]
pub struct MemoryDirectory(SiteDirectory);

impl MemoryDirectory {
    /// Makes the directory `name`; fails if the run has it already.
    pub fn new(name: &str) -> Result<Self> {
        let directory = SiteDirectory::new(name)?;
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("cannot mount a tmpfs on {}", directory.path().display()))?;
        Ok(Self(directory))
    }

    /// The directory.
    pub fn directory(&self) -> &SiteDirectory {
        &self.0
    }
}

impl Drop for MemoryDirectory {
    fn drop(&mut self) {
        let path = self.0.path();
        let gone = umount2(path, MntFlags::MNT_DETACH).map_err(Into::into).and_then(|()| std::fs::remove_dir(path));
        if let Err(error) = gone {
            tracing::warn!(%error, "a directory in memory stays until the end");
        }
    }
}
