//! Directories of a site in memory.
//!
//! On a disk, pending writes and deletions of an earlier measurement slow down the next one: ext4 does not reuse inodes that were
//! freed in the last minutes, and skips all of them for each new file.

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::SiteDirectory;

/// A directory on its own tmpfs; unmounted and removed when dropped.
#[derive(Debug)]
pub struct MemoryDirectory(SiteDirectory);

impl MemoryDirectory {
    /// Creates the directory `name`; fails if it exists.
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
            tracing::warn!(%error, "cannot remove a directory in memory");
        }
    }
}
