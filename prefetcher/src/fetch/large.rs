//! Objects that are too large for memory: in one stream, or in ranges that are downloaded at the same time.
//!
//! A link with a long round trip carries more when several connections share it. But a proxy such as squid does not cache parts of
//! files, so ranges are used only without a proxy. They take the memory of several streams, and as they are put together in order,
//! only that much of an object can be in flight. So ranges are for an object that is downloaded alone: each of several large
//! objects is a stream, and together they are as many connections.

use std::ops::Range;

use bundles::bundle::BundleObject;
use futures::StreamExt;
use tokio::sync::SemaphorePermit;
use tracing::debug;

use super::attempt::{Attempt, Download};
use super::failure::{Cause, Failure};
use super::http::response::StoredSize;
use super::limits::per_request::FetchPolicy;
use super::verify::Streamed;
use super::{Fetcher, Target};

/// Memory of a stream: a piece that is received or processed, and the unpacker's buffer.
const STREAM_MEMORY: u64 = 2 << 20;
/// Number of stored bytes that are handed over at a time.
pub(super) const PIECE: usize = 1 << 20;
/// Objects with more stored bytes may be downloaded in ranges.
const MIN_SIZE_FOR_RANGES: u64 = 8 << 20;
/// Bytes of a range.
const RANGE: u64 = 2 << 20;
/// Numbers of ranges at a time. The first that there is memory for is used.
const PARALLEL_RANGES: [usize; 2] = [3, 2];

impl Fetcher {
    /// Downloads a large object in fixed memory. Returns the bytes received.
    pub(super) async fn download_large(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        policy: FetchPolicy<'_>,
    ) -> Result<u64, Failure> {
        // Ranges are for speed, so a request with a bandwidth limit does not use them.
        let in_ranges = object.stored_size > MIN_SIZE_FOR_RANGES && policy.limit.bytes_per_second().is_none();
        if in_ranges
            && !target.routes.is_proxied(target.routes.first())
            && let Some((parallel, _memory)) = self.memory_for_ranges()
        {
            match self.download_ranges(target, object, policy, parallel).await {
                Err(failure) if failure.cause != Cause::Write => {
                    // A server that does not support ranges, or two servers that disagree.
                    debug!(object = %object.hash, error = %failure, "cannot download in ranges");
                }
                result => return result,
            }
        }
        let _memory = self.streams.acquire(STREAM_MEMORY).await?;
        let path = object.hash.url_path(object.kind);
        let size = StoredSize::of_object(object);
        let download = Download { routes: target.routes, path, size, range: None, policy };
        self.with_retries(&download, |attempt| self.download_stream(target, object, attempt)).await
    }

    /// Returns how many ranges there is memory for now, without waiting.
    fn memory_for_ranges(&self) -> Option<(usize, SemaphorePermit<'_>)> {
        let memory = |count: usize| self.streams.try_acquire(STREAM_MEMORY + RANGE * count as u64);
        PARALLEL_RANGES.into_iter().find_map(|count| Some((count, memory(count)?)))
    }

    async fn download_stream(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        attempt: Attempt<'_>,
    ) -> Result<u64, Failure> {
        let mut response = attempt.open().await?;
        let mut streamed = self.begin(target, object).await?;
        loop {
            let piece = response.body.piece(PIECE).await?;
            if piece.is_empty() {
                break;
            }
            streamed = self.feed(streamed, piece).await?;
        }
        self.cores.run(move |_| streamed.finish()).await?;
        Ok(response.body.received())
    }

    async fn download_ranges(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        policy: FetchPolicy<'_>,
        parallel: usize,
    ) -> Result<u64, Failure> {
        let ranges = ranges(object.stored_size).map(|range| self.download_range(target, object, range, policy));
        let mut pieces = futures::stream::iter(ranges).buffered(parallel);
        let mut streamed = self.begin(target, object).await?;
        while let Some(piece) = pieces.next().await {
            streamed = self.feed(streamed, piece?).await?;
        }
        self.cores.run(move |_| streamed.finish()).await?;
        Ok(object.stored_size)
    }

    async fn download_range(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        range: Range<u64>,
        policy: FetchPolicy<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let path = object.hash.url_path(object.kind);
        let size = StoredSize::exactly(range.end - range.start);
        let download = Download { routes: target.routes, path, size, range: Some(range), policy };
        self.with_retries(&download, |attempt| async move { attempt.open().await?.body.whole().await }).await
    }

    async fn begin(&self, target: Target<'_>, object: &BundleObject) -> Result<Streamed, Failure> {
        let (cache, object) = (target.cache.clone(), object.clone());
        self.cores.run(move |_| Streamed::begin(&cache, &object)).await
    }

    async fn feed(&self, mut streamed: Streamed, piece: Vec<u8>) -> Result<Streamed, Failure> {
        self.cores.run(move |_| streamed.feed(&piece).map(|()| streamed)).await
    }
}

fn ranges(size: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(RANGE)).map(move |n| n * RANGE..((n + 1) * RANGE).min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_an_object() {
        assert_eq!(ranges(2 * RANGE + 1).collect::<Vec<_>>(), [0..RANGE, RANGE..2 * RANGE, 2 * RANGE..2 * RANGE + 1]);
        assert_eq!(ranges(RANGE).count(), 1);
    }
}
