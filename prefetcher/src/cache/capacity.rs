//! How much may be written to a cache, computed before a request starts.
//!
//! A cache manager evicts the least used objects when its limit is exceeded. With a bundle larger than the quota, these are the
//! objects that were just written and those that running jobs need. So prefetching takes at most a share of the limit, and nothing
//! that is pinned. Without a cache manager it takes a share of the free space. A file system is never filled up.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Bytes of a file system that are left free, unless [`RESERVE_SHARE`] is less.
const RESERVE: u64 = 1 << 30;
/// Denominator of the share of a file system that is left free.
const RESERVE_SHARE: u64 = 20;

/// What the administrator allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// Share of the quota, or of the free space without a quota.
    pub share: f64,
    /// Quota of the cache in bytes; `None` without a cache manager.
    pub quota: Option<u64>,
}

/// Size of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSize {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes of the whole file system.
    pub total: u64,
}

impl FileSystemSize {
    /// Queries the file system that `path` is on.
    pub fn query(path: &Path) -> std::io::Result<Self> {
        let found = nix::sys::statvfs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size() as u64);
        Ok(Self { free: bytes(found.blocks_available() as u64), total: bytes(found.blocks() as u64) })
    }
}

/// How much may be written to a destination now, and what that follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FreeSpace {
    /// Bytes that may be written.
    pub bytes: u64,
    /// The limit of the quota, if there is a quota.
    pub quota: Option<u64>,
    /// Bytes in the cache as the cache manager counts them, if it answers.
    pub used: Option<u64>,
    /// Bytes in the cache that cannot be evicted now.
    pub pinned: Option<u64>,
}

impl Allowed {
    /// Returns how many bytes may be written to a cache with `pinned` bytes that cannot be evicted, on a file system of this size.
    pub fn free_space(&self, pinned: u64, file_system: FileSystemSize) -> u64 {
        let reserve = RESERVE.min(file_system.total / RESERVE_SHARE);
        let on_disk = file_system.free.saturating_sub(reserve);
        let by_quota = match self.quota {
            Some(quota) => self.share_of(quota).min(quota.saturating_sub(pinned)),
            None => self.share_of(file_system.free),
        };
        by_quota.min(on_disk)
    }

    /// Returns the allowed share of `bytes`.
    pub fn share_of(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.share) as u64
    }
}

/// Bytes of one destination that the running requests have been granted together. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Granted(Arc<AtomicU64>);

/// What one request may write to one destination. Given back when dropped.
#[derive(Debug)]
pub struct Allowance {
    free_space: u64,
    granted: Granted,
    taken: u64,
    /// Set once an object did not fit. Later objects are refused too, because they are needed later.
    exhausted: bool,
}

impl Granted {
    /// The allowance of a new request for a destination that has `free_space` now.
    pub fn allowance(&self, free_space: FreeSpace) -> Allowance {
        Allowance { free_space: free_space.bytes, granted: self.clone(), taken: 0, exhausted: false }
    }
}

impl Allowance {
    /// Takes `bytes`; false if they do not fit.
    pub fn take(&mut self, bytes: u64) -> bool {
        if self.exhausted {
            return false;
        }
        let more = |granted: u64| granted.checked_add(bytes).filter(|all| *all <= self.free_space);
        self.exhausted = self.granted.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err();
        if !self.exhausted {
            self.taken += bytes;
        }
        !self.exhausted
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.granted.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn free_space_is_a_share_without_pinned_bytes_and_reserve() {
        let plenty = FileSystemSize { free: 500 * GIB, total: 1000 * GIB };
        for (share, quota, pinned, size, expected) in [
            (0.5, Some(4 * GIB), 0, plenty, 2 * GIB),
            (0.5, Some(4 * GIB), 3 * GIB, plenty, GIB),
            (0.5, Some(4 * GIB), 5 * GIB, plenty, 0),
            (1.0, Some(4 * GIB), 0, plenty, 4 * GIB),
            (0.5, None, 0, plenty, 250 * GIB),
            // 1 GiB stays free of a large file system, a twentieth of a small one.
            (1.0, None, 0, plenty, 499 * GIB),
            (1.0, Some(4 * GIB), 0, FileSystemSize { free: 3 * GIB, total: 100 * GIB }, 2 * GIB),
            (1.0, Some(4 * GIB), 0, FileSystemSize { free: 3 * GIB, total: 10 * GIB }, 3 * GIB - GIB / 2),
            (1.0, None, 0, FileSystemSize { free: GIB / 4, total: 10 * GIB }, 0),
        ] {
            let found = Allowed { share, quota }.free_space(pinned, size);
            assert_eq!(found, expected, "{share} {quota:?} {pinned} {size:?}");
        }
        assert!(FileSystemSize::query(Path::new("/")).unwrap().total > 0);
        assert!(FileSystemSize::query(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn requests_share_the_free_space_in_order_of_need() {
        let granted = Granted::default();
        let free_space = FreeSpace { bytes: 100, ..FreeSpace::default() };
        let mut first = granted.allowance(free_space);
        let mut second = granted.allowance(free_space);
        assert!(first.take(60) && second.take(40) && first.take(0));
        assert!(!second.take(1) && !second.take(0), "later objects are needed later");
        drop(first);
        let mut third = granted.allowance(free_space);
        assert!(third.take(60) && !third.take(1));
        drop((second, third));
        assert_eq!(granted.0.load(Ordering::Relaxed), 0);
    }
}
