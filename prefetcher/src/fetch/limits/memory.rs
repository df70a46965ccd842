//! Bytes that may be in memory at a time.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::fetch::failure::Failure;

/// The unit of permits.
const KIB: u64 = 1 << 10;

/// Bytes that may be in memory at a time.
#[derive(Debug)]
pub struct MemoryLimit {
    free: Semaphore,
    total: u64,
}

impl MemoryLimit {
    /// At most `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { free: Semaphore::new((total / KIB) as usize), total }
    }

    /// Waits for `bytes`, or for the total if that is less.
    pub async fn acquire(&self, bytes: u64) -> Result<SemaphorePermit<'_>, Failure> {
        let permits = bytes.min(self.total).div_ceil(KIB).max(1);
        Ok(self.free.acquire_many(permits as u32).await?)
    }

    /// Takes `bytes` if they are free and nobody waits.
    pub fn try_acquire(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire_many(bytes.div_ceil(KIB) as u32).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn requests_for_more_than_the_total_wait_for_all_of_it() {
        let memory = MemoryLimit::new(4 * KIB);
        let half = memory.acquire(2 * KIB).await.unwrap();
        assert!(memory.try_acquire(2 * KIB + 1).is_none() && memory.try_acquire(2 * KIB).is_some());
        let mut waits = Box::pin(memory.acquire(3 * KIB));
        assert!(futures::poll!(&mut waits).is_pending() && memory.try_acquire(1).is_none(), "somebody waits");
        drop(waits);
        for (bytes, fits) in [(0, true), (KIB + 1, true), (2 * KIB, true), (2 * KIB + 1, false), (u64::MAX, false)] {
            assert_eq!(futures::poll!(Box::pin(memory.acquire(bytes))).is_ready(), fits, "{bytes}");
        }
        drop(half);
        assert!(futures::poll!(Box::pin(memory.acquire(u64::MAX))).is_ready());
    }
}
