//! How much may be written to a cache.
//!
//! A cache manager evicts the least used objects when its limit is exceeded. With a bundle larger than the quota, these are the
//! objects that were just written and those that running jobs need. So prefetching takes at most a share of the limit, and nothing
//! that is pinned; without a cache manager it takes a share of the free space. Requests that follow each other would still evict
//! everything, so there is a limit for each hour, too. A file system is never filled up ([`file_system`](super::file_system)).

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;

use super::file_system::FileSystemSize;
use super::hourly::Hourly;

/// Denominator of the share of the quota that objects may have that are not registered with the cache manager.
pub(super) const UNREGISTERED_SHARE: u64 = 10;

/// What the administrator allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// Share of the quota, or of the free space without a quota, that running requests may write together.
    pub share: f64,
    /// Share of the same that all requests of an hour may write.
    pub hourly_share: f64,
    /// Quota of the cache in bytes; `None` without a quota.
    pub quota: Option<u64>,
    /// Share of the file system that stays free.
    pub reserve: f64,
}

impl Default for Allowed {
    /// Everything, without a quota.
    fn default() -> Self {
        Self { share: 1.0, hourly_share: 1.0, quota: None, reserve: 0.0 }
    }
}

/// What is known of the content of a cache with a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes in the cache, if they are known.
    pub used: Option<u64>,
    /// Bytes in the cache that cannot be evicted now.
    pub pinned: u64,
    /// Bytes that the daemon wrote and could not register with the cache manager.
    pub unregistered: u64,
    /// Whether new objects can be registered now, or need not be.
    pub registers: bool,
}

/// How much may be written to a destination now, and what that follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FreeSpace {
    /// Bytes that may be written.
    pub bytes: u64,
    /// Objects that may be written; more would take the inodes that stay free.
    pub objects: u64,
    /// Bytes that may be written in an hour.
    pub hourly_bytes: u64,
    /// The limit of the quota, if there is a quota.
    pub quota: Option<u64>,
    /// Bytes in the cache as the cache manager counts them, if it answers.
    pub used: Option<u64>,
    /// Bytes in the cache that cannot be evicted now.
    pub pinned: Option<u64>,
    /// Bytes that the daemon wrote and could not register with the cache manager yet.
    pub unregistered: u64,
}

impl FreeSpace {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        bytes: u64::MAX,
        objects: u64::MAX,
        hourly_bytes: u64::MAX,
        quota: None,
        used: None,
        pinned: None,
        unregistered: 0,
    };
}

impl Allowed {
    /// Returns how many bytes may be written to a cache with this content on a file system of this size.
    pub fn free_space(&self, content: Content, file_system: FileSystemSize) -> u64 {
        let Content { used, pinned, unregistered, registers } = content;
        let on_disk = file_system.available(self.reserve);
        // A cache manager may have a quota that is not known here.
        let more = |limit: u64| (limit / UNREGISTERED_SHARE).saturating_sub(unregistered);
        let Some(quota) = self.quota else {
            let by_share = self.share_of(file_system.free).saturating_sub(unregistered).min(on_disk);
            return if registers { by_share } else { by_share.min(more(file_system.free)) };
        };
        let by_share = self.share_of(quota).min(quota.saturating_sub(pinned));
        // The cache grows to its quota. Of what is written beyond that, the cache manager evicts as much as comes in.
        let growth = used.map(|used| quota.saturating_sub(used.saturating_add(unregistered)));
        if !registers {
            return by_share.min(more(quota)).min(growth.unwrap_or(u64::MAX)).min(on_disk);
        }
        let by_share = by_share.saturating_sub(unregistered);
        match growth {
            Some(growth) if growth <= on_disk && on_disk > 0 => by_share,
            _ => by_share.min(on_disk),
        }
    }

    /// Returns how many bytes may be written in an hour.
    pub fn hourly(&self, file_system: FileSystemSize) -> u64 {
        (self.quota.unwrap_or(file_system.free) as f64 * self.hourly_share) as u64
    }

    /// Returns the allowed share of `bytes`.
    pub fn share_of(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.share) as u64
    }
}

/// Bytes of one destination that the running requests have been granted together, and those written during the last hour. Clones
/// share them.
#[derive(Debug, Clone)]
pub struct Granted(Arc<Mutex<Sums>>);

#[derive(Debug)]
struct Sums {
    bytes: u64,
    objects: u64,
    /// Bytes of `bytes` that are not written yet.
    pending: u64,
    hourly: Hourly,
}

/// Why an object may not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not fit into the cache, or into the part of it that running requests may write.
    CacheFull,
    /// The requests of the last hour have written enough.
    HourlyLimit,
}

/// What one request may write to one destination. What was not written is given back when it is dropped.
#[derive(Debug)]
pub struct Allowance {
    free_space: FreeSpace,
    granted: Granted,
    bytes: u64,
    objects: u64,
    pending: u64,
    /// Set once an object did not fit. Later objects are refused too, because they are needed later.
    refusal: Option<Refusal>,
}

impl Default for Granted {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Sums { bytes: 0, objects: 0, pending: 0, hourly: Hourly::new(Instant::now()) })))
    }
}

impl Granted {
    /// The allowance of a new request for a destination that has `free_space` now.
    pub fn allowance(&self, free_space: FreeSpace) -> Allowance {
        Allowance { free_space, granted: self.clone(), bytes: 0, objects: 0, pending: 0, refusal: None }
    }
}

impl Allowance {
    /// What it follows from.
    pub fn free_space(&self) -> &FreeSpace {
        &self.free_space
    }

    /// Takes `bytes` for one object, or says why they do not fit.
    pub fn take(&mut self, bytes: u64) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let mut sums = self.granted.0.lock();
        let fits = |granted: u64, limit: u64| granted.checked_add(bytes).is_some_and(|all| all <= limit);
        let this_hour = sums.hourly.written(Instant::now()).saturating_add(sums.pending);
        let refusal = if !fits(sums.bytes, self.free_space.bytes) || sums.objects >= self.free_space.objects {
            Refusal::CacheFull
        } else if !fits(this_hour, self.free_space.hourly_bytes) {
            Refusal::HourlyLimit
        } else {
            sums.bytes += bytes;
            sums.objects += 1;
            sums.pending += bytes;
            self.bytes += bytes;
            self.objects += 1;
            self.pending += bytes;
            return Ok(());
        };
        self.refusal = Some(refusal);
        Err(refusal)
    }

    /// An object of `bytes` that were taken has been written.
    pub fn written(&mut self, bytes: u64) {
        let bytes = bytes.min(self.pending);
        let mut sums = self.granted.0.lock();
        self.pending -= bytes;
        sums.pending -= bytes;
        sums.hourly.add(Instant::now(), bytes);
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let mut sums = self.granted.0.lock();
        sums.bytes -= self.bytes;
        sums.objects -= self.objects;
        sums.pending -= self.pending;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIB: u64 = 1 << 30;

    fn size(free: u64, total: u64) -> FileSystemSize {
        FileSystemSize { free, total, free_inodes: 0, inodes: 0 }
    }

    #[test]
    fn free_space_is_a_share_without_pinned_bytes_and_reserve() {
        let plenty = size(500 * GIB, 1000 * GIB);
        for (share, quota, pinned, size, expected) in [
            (0.5, Some(4 * GIB), 0, plenty, 2 * GIB),
            (0.5, Some(4 * GIB), 3 * GIB, plenty, GIB),
            (0.5, Some(4 * GIB), 5 * GIB, plenty, 0),
            (1.0, Some(4 * GIB), 0, plenty, 4 * GIB),
            (0.5, None, 0, plenty, 250 * GIB),
            (1.0, None, 0, plenty, 350 * GIB),
            (1.0, Some(4 * GIB), 0, size(17 * GIB, 100 * GIB), 2 * GIB),
            (1.0, Some(4 * GIB), 0, size(10 * GIB, 100 * GIB), 0),
            (1.0, None, 0, size(GIB, 10 * GIB), 0),
        ] {
            let allowed = Allowed { share, quota, reserve: 0.15, ..Allowed::default() };
            let content = Content { pinned, registers: true, ..Content::default() };
            assert_eq!(allowed.free_space(content, size), expected, "{share} {quota:?} {pinned} {size:?}");
        }
    }

    #[test]
    fn a_full_cache_takes_objects_as_long_as_the_disk_has_its_reserve() {
        let allowed = Allowed { share: 0.5, quota: Some(40 * GIB), reserve: 0.15, ..Allowed::default() };
        for (used, free, expected) in [
            // The cache manager evicts what comes in beyond the quota.
            (40, 16, 20),
            (39, 16, 20),
            // The cache may grow by 10, and 1 is left on the disk.
            (30, 16, 1),
            (40, 15, 0),
            (40, 2, 0),
        ] {
            let content = Content { used: Some(used * GIB), registers: true, ..Content::default() };
            assert_eq!(allowed.free_space(content, size(free * GIB, 100 * GIB)), expected * GIB, "{used} {free}");
        }
    }

    #[test]
    fn unregistered_bytes_count_and_have_a_bound() {
        let allowed = Allowed { share: 0.5, quota: Some(100), ..Allowed::default() };
        let plenty = size(1000, 1000);
        for (unregistered, used, registers, expected) in [
            (0, Some(0), true, 50),
            (20, Some(0), true, 30),
            (60, Some(0), true, 0),
            (0, None, false, 10),
            (4, None, false, 6),
            (10, None, false, 0),
            (0, Some(95), false, 5),
            (2, Some(95), false, 3),
        ] {
            let content = Content { used, pinned: 0, unregistered, registers };
            assert_eq!(allowed.free_space(content, plenty), expected, "{content:?}");
        }
    }

    #[test]
    fn requests_share_the_free_space_in_order_of_need() {
        let granted = Granted::default();
        let free_space = FreeSpace { bytes: 100, objects: 4, ..FreeSpace::UNLIMITED };
        let (mut first, mut second) = (granted.allowance(free_space), granted.allowance(free_space));
        assert!(first.take(60).is_ok() && second.take(40).is_ok() && first.take(0).is_ok());
        assert_eq!(second.take(1), Err(Refusal::CacheFull));
        assert_eq!(second.take(0), Err(Refusal::CacheFull), "later objects are needed later");
        drop(first);
        let mut third = granted.allowance(free_space);
        assert!(third.take(60).is_ok() && third.take(1).is_err());
        drop((second, third));
        let mut many = granted.allowance(free_space);
        assert_eq!([(); 5].map(|()| many.take(1).is_ok()), [true, true, true, true, false]);
        drop(many);
        let sums = granted.0.lock();
        assert_eq!((sums.bytes, sums.objects, sums.pending), (0, 0, 0));
    }

    #[test]
    fn requests_that_follow_each_other_share_the_limit_of_an_hour() {
        let granted = Granted::default();
        let free_space = FreeSpace { bytes: 50, hourly_bytes: 100, ..FreeSpace::UNLIMITED };
        let (mut fetched, mut refusal) = (0, Ok(()));
        for _ in 0..10 {
            let mut request = granted.allowance(free_space);
            while request.take(10).is_ok() {
                request.written(10);
                fetched += 10;
            }
            refusal = request.take(10);
        }
        assert_eq!((fetched, refusal), (100, Err(Refusal::HourlyLimit)));
        // What is not written does not count: objects that a server refuses, for example.
        let granted = Granted::default();
        for _ in 0..10 {
            let mut request = granted.allowance(free_space);
            assert!(request.take(40).is_ok());
        }
        let (mut first, mut second) = (granted.allowance(free_space), granted.allowance(free_space));
        assert!(first.take(40).is_ok());
        first.written(40);
        first.written(40);
        assert_eq!((first.pending, granted.0.lock().pending), (0, 0));
        drop(first);
        assert!(second.take(50).is_ok());
        let mut third = granted.allowance(FreeSpace { bytes: 100, ..free_space });
        assert_eq!(third.take(11), Err(Refusal::HourlyLimit));
    }
}
