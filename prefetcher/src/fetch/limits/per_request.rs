//! On which terms something is fetched: how urgent it is, and what its request may take of the line.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::token_bucket::TokenBucket;
use crate::fetch::failure::Failure;

/// A request with a limit asks for one thing at a time, and for one more for every so many bytes a second: what waits for its
/// time holds memory and a connection, which others are to have.
const PER_TURN: u64 = 8 << 20;

/// The terms of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Its place among others; a smaller one goes first.
    pub rank: u8,
    /// Its request's own limit.
    pub own: &'a RequestLimit,
}

/// What one request may take of the line, if its caller has said so.
#[derive(Debug)]
pub struct RequestLimit {
    bucket: TokenBucket,
    turns: Semaphore,
}

impl RequestLimit {
    /// So many bytes a second, or as many as the node may have.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bucket: TokenBucket::new(bytes_per_second), turns: Semaphore::new(turns(bytes_per_second)) }
    }

    /// Somebody else wants the same, with another limit: the wider one holds.
    pub fn widen(&self, bytes_per_second: Option<u64>) {
        let own = self.bytes_per_second();
        let wider = own.zip(bytes_per_second).map(|(own, other)| own.max(other));
        if wider != own {
            self.bucket.set_rate(wider);
            self.turns.add_permits(turns(wider) - turns(own));
        }
    }

    /// The limit.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.bucket.rate()
    }

    pub(in crate::fetch) fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }

    /// Waits until the request may ask for one more object, or part of a pack.
    pub(in crate::fetch) async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        Ok(self.turns.acquire().await?)
    }
}

fn turns(bytes_per_second: Option<u64>) -> usize {
    bytes_per_second.map_or(Semaphore::MAX_PERMITS, |limit| 1 + (limit / PER_TURN).min(1 << 10) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wider_limit_holds_with_its_turns() {
        const MIB: u64 = 1 << 20;
        for (first, second, limit, turns) in [
            (Some(MIB), Some(MIB), Some(MIB), 1),
            (Some(MIB), Some(20 * MIB), Some(20 * MIB), 3),
            (Some(20 * MIB), Some(MIB), Some(20 * MIB), 3),
            (Some(MIB), None, None, Semaphore::MAX_PERMITS),
            (None, Some(MIB), None, Semaphore::MAX_PERMITS),
            (Some(u64::MAX), Some(MIB), Some(u64::MAX), 1025),
        ] {
            let own = RequestLimit::new(first);
            own.widen(second);
            let found = (own.bytes_per_second(), own.turns.available_permits());
            assert_eq!(found, (limit, turns), "{first:?} {second:?}");
        }
    }
}
