//! Priority and bandwidth limit of the request that a download is for.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::token_bucket::TokenBucket;
use crate::fetch::failure::Failure;

/// A request with a bandwidth limit downloads one object at a time, and one more for each of these bytes per second. Downloads that
/// wait for their time hold memory and a connection that others could use.
const BYTES_PER_SECOND_PER_DOWNLOAD: u64 = 8 << 20;

/// Priority and limit of the request that a download is for.
#[derive(Debug, Clone, Copy)]
pub struct FetchPolicy<'a> {
    /// Downloads with a smaller rank go first.
    pub rank: u8,
    /// Bandwidth limit of the request.
    pub limit: &'a RequestLimit,
}

/// The bandwidth limit of one request, if the client has set one.
#[derive(Debug)]
pub struct RequestLimit {
    bytes: TokenBucket,
    downloads: Semaphore,
}

impl RequestLimit {
    /// At most `bytes_per_second`; no limit but the node's if `None`.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes: TokenBucket::new(bytes_per_second), downloads: Semaphore::new(downloads(bytes_per_second)) }
    }

    /// Another client joins the request with another limit: the wider one holds.
    pub fn widen(&self, bytes_per_second: Option<u64>) {
        let own = self.bytes_per_second();
        let wider = own.zip(bytes_per_second).map(|(own, other)| own.max(other));
        if wider != own {
            self.bytes.set_rate(wider);
            self.downloads.add_permits(downloads(wider) - downloads(own));
        }
    }

    /// The limit in bytes per second; `None` without one.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.bytes.rate()
    }

    pub(in crate::fetch) fn bytes(&self) -> &TokenBucket {
        &self.bytes
    }

    /// Waits until the request may download one more object, or part of a pack.
    pub(in crate::fetch) async fn acquire(&self) -> Result<SemaphorePermit<'_>, Failure> {
        Ok(self.downloads.acquire().await?)
    }
}

fn downloads(bytes_per_second: Option<u64>) -> usize {
    let downloads = |limit: u64| 1 + (limit / BYTES_PER_SECOND_PER_DOWNLOAD).min(1 << 10) as usize;
    bytes_per_second.map_or(Semaphore::MAX_PERMITS, downloads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wider_limit_holds_with_its_downloads() {
        const MIB: u64 = 1 << 20;
        for (first, second, limit, downloads) in [
            (Some(MIB), Some(MIB), Some(MIB), 1),
            (Some(MIB), Some(20 * MIB), Some(20 * MIB), 3),
            (Some(20 * MIB), Some(MIB), Some(20 * MIB), 3),
            (Some(MIB), None, None, Semaphore::MAX_PERMITS),
            (None, Some(MIB), None, Semaphore::MAX_PERMITS),
            (Some(u64::MAX), Some(MIB), Some(u64::MAX), 1025),
        ] {
            let joined = RequestLimit::new(first);
            joined.widen(second);
            let found = (joined.bytes_per_second(), joined.downloads.available_permits());
            assert_eq!(found, (limit, downloads), "{first:?} {second:?}");
        }
    }
}
