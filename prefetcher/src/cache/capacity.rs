//! How much may be written, looked up before it is.
//!
//! A quota manager evicts what is used least when its limit is passed; with a bundle larger than the quota that is what
//! was just written, and what running jobs need. So a prefetch takes a share of the limit at most, and nothing of what
//! is pinned. Where nobody counts, it takes a share of what is free. A file system is never filled up.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Of a file system, so much is left free, or [`RESERVE_SHARE`] if that is less.
const RESERVE: u64 = 1 << 30;
/// One part in so many.
const RESERVE_SHARE: u64 = 20;

/// What an administrator allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// Of the quota, or of what is free without one.
    pub share: f64,
    /// Most bytes of the cache; `None` if nobody counts.
    pub quota: Option<u64>,
}

/// What a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

impl Space {
    /// Of the file system that `path` is on.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let found = nix::sys::statvfs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size() as u64);
        Ok(Self { free: bytes(found.blocks_available() as u64), total: bytes(found.blocks() as u64) })
    }
}

/// What may be written now, and what that follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Bytes that may be written.
    pub bytes: u64,
    /// The limit of the quota, if there is one.
    pub quota: Option<u64>,
    /// What the quota manager counts, if it answers.
    pub used: Option<u64>,
    /// What of it cannot be evicted.
    pub pinned: Option<u64>,
}

impl Allowed {
    /// The room in a cache with so many pinned bytes, on a file system with so much space.
    pub fn room(&self, pinned: u64, space: Space) -> u64 {
        let reserve = RESERVE.min(space.total / RESERVE_SHARE);
        let on_disk = space.free.saturating_sub(reserve);
        let by_quota = match self.quota {
            Some(quota) => self.share_of(quota).min(quota.saturating_sub(pinned)),
            None => self.share_of(space.free),
        };
        by_quota.min(on_disk)
    }

    /// The share of `bytes`.
    pub fn share_of(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.share) as u64
    }
}

/// What the running requests have been granted of one sink together.
#[derive(Debug, Clone, Default)]
pub struct Granted(Arc<AtomicU64>);

/// What one request may write to one sink. Given back when dropped.
#[derive(Debug)]
pub struct Allowance {
    room: u64,
    granted: Granted,
    taken: u64,
    /// Once an object had no room, no later one is let in: what is needed first goes first.
    closed: bool,
}

impl Granted {
    /// For a new request, into a sink that has `room` now.
    pub fn allowance(&self, room: Room) -> Allowance {
        Allowance { room: room.bytes, granted: self.clone(), taken: 0, closed: false }
    }
}

impl Allowance {
    /// Takes `bytes`, unless they have no room.
    pub fn take(&mut self, bytes: u64) -> bool {
        if self.closed {
            return false;
        }
        let more = |granted: u64| granted.checked_add(bytes).filter(|all| *all <= self.room);
        self.closed = self.granted.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err();
        if !self.closed {
            self.taken += bytes;
        }
        !self.closed
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
    fn room_is_a_share_and_leaves_what_is_pinned_and_a_reserve() {
        let plenty = Space { free: 500 * GIB, total: 1000 * GIB };
        for (share, quota, pinned, space, expected) in [
            (0.5, Some(4 * GIB), 0, plenty, 2 * GIB),
            (0.5, Some(4 * GIB), 3 * GIB, plenty, GIB),
            (0.5, Some(4 * GIB), 5 * GIB, plenty, 0),
            (1.0, Some(4 * GIB), 0, plenty, 4 * GIB),
            (0.5, None, 0, plenty, 250 * GIB),
            // 1 GiB stays free of a large file system, a twentieth of a small one.
            (1.0, None, 0, plenty, 499 * GIB),
            (1.0, Some(4 * GIB), 0, Space { free: 3 * GIB, total: 100 * GIB }, 2 * GIB),
            (1.0, Some(4 * GIB), 0, Space { free: 3 * GIB, total: 10 * GIB }, 3 * GIB - GIB / 2),
            (1.0, None, 0, Space { free: GIB / 4, total: 10 * GIB }, 0),
        ] {
            assert_eq!(Allowed { share, quota }.room(pinned, space), expected, "{share} {quota:?} {pinned} {space:?}");
        }
        assert!(Space::of(Path::new("/")).unwrap().total > 0);
        assert!(Space::of(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn requests_share_the_room_and_the_first_without_it_is_the_last() {
        let granted = Granted::default();
        let room = Room { bytes: 100, ..Room::default() };
        let mut one = granted.allowance(room);
        let mut two = granted.allowance(room);
        assert!(one.take(60) && two.take(40) && one.take(0));
        assert!(!two.take(1) && !two.take(0), "what comes later is needed later");
        drop(one);
        let mut three = granted.allowance(room);
        assert!(three.take(60) && !three.take(1));
        drop((two, three));
        assert_eq!(granted.0.load(Ordering::Relaxed), 0);
    }
}
