//! The file system of a cache: its kind, its size, and how much of it stays free.
//!
//! A prefetch must not be what makes a kubelet evict pods. Its default hard thresholds are `nodefs.available<10%`,
//! `imagefs.available<15%` and `nodefs.inodesFree<5%`. Which of them holds for the file system of the cache is unknown here, so
//! the default for a file system that a kubelet may watch is the largest one.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, statfs};
use parking_lot::Mutex;

/// Share of the inodes of a file system that stays free.
pub const INODE_RESERVE: f64 = 0.05;
/// The type that `statfs` shows for BeeGFS.
const BEEGFS: FsType = FsType(0x1983_0326);
/// How long a query of the size is relied on, less what was written since.
const RECENT: Duration = Duration::from_secs(1);

/// File systems with rules of their own, which the CVMFS client has as well (`cvmfs/cache_posix.cc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystemKind {
    /// NFS reports that a write has failed as late as when the file is synchronised or closed.
    Nfs,
    /// BeeGFS: temporary files are made beside the object, as the client makes them.
    BeeGfs,
    /// All others.
    Other,
}

impl FileSystemKind {
    /// Queries the file system that `path` is on.
    pub(super) fn query(path: &Path) -> io::Result<Self> {
        let found = statfs(path)?.filesystem_type();
        Ok(match found {
            _ if found == NFS_SUPER_MAGIC => Self::Nfs,
            _ if found == BEEGFS => Self::BeeGfs,
            _ => Self::Other,
        })
    }
}

/// Size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSize {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes of the whole file system.
    pub total: u64,
    /// Inodes that this user may still make.
    pub free_inodes: u64,
    /// All inodes. 0 if the file system makes them as they are needed.
    pub inodes: u64,
}

/// Directories of a kubelet and of container runtimes. A kubelet evicts pods when little is free where they are.
const WATCHED: [&str; 5] =
    ["/var/lib/kubelet", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/rancher"];
/// A kubelet's largest default threshold: `imagefs.available<15%`.
const WATCHED_RESERVE: f64 = 0.15;
/// For the file system of a cache that no kubelet watches.
const OWN_RESERVE: f64 = 0.02;

/// The share of the file system of `path` that stays free unless another one is configured.
pub fn default_reserve(path: &Path) -> f64 {
    reserve_beside(path, &WATCHED.map(Path::new))
}

fn reserve_beside(path: &Path, watched: &[&Path]) -> f64 {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let own = device(path);
    let is_watched = own.is_none() || watched.iter().any(|watched| device(watched) == own);
    if is_watched { WATCHED_RESERVE } else { OWN_RESERVE }
}

impl FileSystemSize {
    /// Queries the file system that `path` is on.
    pub fn query(path: &Path) -> io::Result<Self> {
        let found = nix::sys::statvfs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size() as u64);
        Ok(Self {
            free: bytes(found.blocks_available() as u64),
            total: bytes(found.blocks() as u64),
            free_inodes: found.files_available() as u64,
            inodes: found.files() as u64,
        })
    }

    /// Returns how many bytes may be written so that the share `reserve` stays free.
    pub fn available(&self, reserve: f64) -> u64 {
        self.free.saturating_sub((self.total as f64 * reserve) as u64)
    }

    /// Returns how many files may be made so that [`INODE_RESERVE`] stays free.
    pub fn available_inodes(&self) -> u64 {
        match self.inodes {
            0 => u64::MAX,
            all => self.free_inodes.saturating_sub((all as f64 * INODE_RESERVE) as u64),
        }
    }
}

/// Watches the file system while objects are written: others fill it, too.
#[derive(Debug)]
pub(super) struct DiskGuard {
    reserve: f64,
    /// When the size was queried, and what may still be written after that.
    state: Mutex<Option<Available>>,
}

#[derive(Debug, Clone, Copy)]
struct Available {
    since: Instant,
    bytes: u64,
    inodes: u64,
}

impl Available {
    fn take(&mut self, bytes: u64) -> bool {
        match (self.bytes.checked_sub(bytes), self.inodes.checked_sub(1)) {
            (Some(bytes), Some(inodes)) => {
                (self.bytes, self.inodes) = (bytes, inodes);
                true
            }
            _ => false,
        }
    }
}

impl DiskGuard {
    /// The share `reserve` stays free.
    pub(super) fn new(reserve: f64) -> Self {
        Self { reserve, state: Mutex::new(None) }
    }

    /// Whether a file of `bytes` may be written to the file system that `path` is on; if not, its size.
    pub(super) fn take(&self, path: &Path, bytes: u64) -> io::Result<Result<(), FileSystemSize>> {
        let mut state = self.state.lock();
        if state.as_mut().is_some_and(|available| available.since.elapsed() < RECENT && available.take(bytes)) {
            return Ok(Ok(()));
        }
        let size = FileSystemSize::query(path)?;
        let (left, inodes) = (size.available(self.reserve), size.available_inodes());
        let mut available = Available { since: Instant::now(), bytes: left, inodes };
        let fits = available.take(bytes);
        *state = Some(available);
        Ok(if fits { Ok(()) } else { Err(size) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_share_of_bytes_and_inodes_stays_free() {
        let size = FileSystemSize { free: 300, total: 1000, free_inodes: 60, inodes: 1000 };
        assert_eq!((size.available(0.15), size.available(0.5), size.available(0.0)), (150, 0, 300));
        assert_eq!(size.available_inodes(), 10);
        assert_eq!(FileSystemSize { free_inodes: 10, ..size }.available_inodes(), 0);
        // btrfs, for example.
        assert_eq!(FileSystemSize { free_inodes: 0, inodes: 0, ..size }.available_inodes(), u64::MAX);
        assert!(FileSystemSize::query(Path::new("/")).unwrap().total > 0);
        assert!(FileSystemSize::query(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn more_stays_free_beside_a_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let (beside, elsewhere) = (dir.path().join("kubelet"), Path::new("/proc"));
        std::fs::create_dir(&beside).unwrap();
        assert_eq!(reserve_beside(dir.path(), &[elsewhere, &beside]), WATCHED_RESERVE);
        assert_eq!(reserve_beside(dir.path(), &[elsewhere, &dir.path().join("none")]), OWN_RESERVE);
        assert_eq!(reserve_beside(&dir.path().join("none"), &[elsewhere]), WATCHED_RESERVE);
    }

    #[test]
    fn a_disk_is_watched_while_it_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let guard = DiskGuard::new(0.0);
        assert!(guard.take(dir.path(), 1).unwrap().is_ok());
        // Less than what was found before: queried again.
        let free = guard.state.lock().unwrap().bytes;
        assert!(guard.take(dir.path(), free.saturating_mul(2)).unwrap().is_err());
        assert!(DiskGuard::new(1.0).take(dir.path(), 1).unwrap().is_err());
        assert!(guard.take(&dir.path().join("none"), u64::MAX).is_err());
    }

    #[test]
    fn the_kind_of_a_file_system_is_its_type() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(FileSystemKind::query(dir.path()).unwrap(), FileSystemKind::Other);
        assert!(FileSystemKind::query(&dir.path().join("none")).is_err());
    }
}
