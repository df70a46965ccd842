//! Objects that are too large for memory: in one stream, or in ranges that come side by side.
//!
//! A line with a long way carries more when several connections share it. But a proxy such as squid keeps no parts of
//! files: ranges go only where there is none. They take memory of several streams, and as they have to be put together in
//! order, no more of an object is on its way than that. So ranges are for an object that comes alone: of several, each is
//! a stream, and together they are as many connections.

use std::ops::Range;

use bundles::bundle::BundleObject;
use futures::StreamExt;
use tokio::sync::SemaphorePermit;
use tracing::debug;

use super::failover::{Retry, Turn};
use super::failure::{Cause, Failure};
use super::http::download::{Ask, Limits};
use super::limits::per_request::Terms;
use super::verify::Streamed;
use super::{Fetcher, Target};

/// What a stream is counted as: a piece that comes or is worked off, and the unpacker's buffer.
const STREAM_COST: u64 = 2 << 20;
/// How many stored bytes are handed over at a time.
pub(super) const PIECE: usize = 1 << 20;
/// Objects of more stored bytes may come in ranges.
const ONE_STREAM: u64 = 8 << 20;
/// Bytes of a range.
const SPAN: u64 = 2 << 20;
/// So many ranges side by side, or as many as there is memory for.
const ABREAST: [usize; 2] = [3, 2];

impl Fetcher {
    /// Brings a large object in fixed memory.
    pub(super) async fn bring_large(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        terms: Terms<'_>,
    ) -> Result<u64, Failure> {
        let size = object.stored_size;
        // Ranges are for speed.
        let in_ranges = size > ONE_STREAM && terms.own.bytes_per_second().is_none();
        if in_ranges
            && !target.routes.is_proxied(target.routes.first())
            && let Some((abreast, _memory)) = self.ranges_abreast()
        {
            match self.bring_ranges(target, object, terms, abreast).await {
                Err(failure) if failure.cause != Cause::Write => {
                    // A server without ranges, or two that disagree.
                    debug!(object = %object.hash, error = %failure, "not to be had in ranges");
                }
                result => return result,
            }
        }
        let _memory = self.streams.take(STREAM_COST).await?;
        let path = object.hash.url_path(object.kind);
        let mut tries = Retry::new(target.routes);
        while let Some(turn) = tries.next().await {
            let url = target.routes.url(turn.way, &path);
            let ask =
                Ask { url: &url, limits: Limits::of(object), range: None, fresh: turn.fresh, own: terms.own.bucket() };
            let _place = target.routes.enter(turn.way, terms.rank).await;
            match self.stream(target, object, turn, &ask).await {
                Err(failure) => tries.failed(failure)?,
                done => return done,
            }
        }
        Err(tries.failure())
    }

    /// How many ranges there is memory for now, without waiting.
    fn ranges_abreast(&self) -> Option<(usize, SemaphorePermit<'_>)> {
        ABREAST.into_iter().find_map(|count| Some((count, self.streams.spare(STREAM_COST + SPAN * count as u64)?)))
    }

    async fn stream(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        turn: Turn,
        ask: &Ask<'_>,
    ) -> Result<u64, Failure> {
        let mut body = self.open(target.routes, turn.way, ask).await?;
        let mut streamed = self.begin(target, object).await?;
        loop {
            let piece = body.piece(PIECE).await?;
            if piece.is_empty() {
                break;
            }
            streamed = self.feed(streamed, piece).await?;
        }
        self.cores.run(move |_| streamed.finish()).await?;
        Ok(body.received())
    }

    async fn bring_ranges(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        terms: Terms<'_>,
        abreast: usize,
    ) -> Result<u64, Failure> {
        let spans = spans(object.stored_size).map(|span| self.range(target, object, span, terms));
        let mut coming = futures::stream::iter(spans).buffered(abreast);
        let mut streamed = self.begin(target, object).await?;
        while let Some(piece) = coming.next().await {
            streamed = self.feed(streamed, piece?).await?;
        }
        self.cores.run(move |_| streamed.finish()).await?;
        Ok(object.stored_size)
    }

    async fn range(
        &self,
        target: Target<'_>,
        object: &BundleObject,
        span: Range<u64>,
        terms: Terms<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let path = object.hash.url_path(object.kind);
        let limits = Limits::exactly(span.end - span.start);
        let mut tries = Retry::new(target.routes);
        while let Some(Turn { way, fresh }) = tries.next().await {
            let url = target.routes.url(way, &path);
            let ask = Ask { url: &url, limits, range: Some(span.clone()), fresh, own: terms.own.bucket() };
            let _place = target.routes.enter(way, terms.rank).await;
            let download = async { self.open(target.routes, way, &ask).await?.whole().await };
            match download.await {
                Err(failure) => tries.failed(failure)?,
                done => return done,
            }
        }
        Err(tries.failure())
    }

    async fn begin(&self, target: Target<'_>, object: &BundleObject) -> Result<Streamed, Failure> {
        let (sink, object) = (target.sink.clone(), object.clone());
        self.cores.run(move |_| Streamed::begin(&*sink, &object)).await
    }

    async fn feed(&self, mut streamed: Streamed, piece: Vec<u8>) -> Result<Streamed, Failure> {
        self.cores.run(move |_| streamed.feed(&piece).map(|()| streamed)).await
    }
}

fn spans(size: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(SPAN)).map(move |n| n * SPAN..((n + 1) * SPAN).min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_an_object() {
        assert_eq!(spans(2 * SPAN + 1).collect::<Vec<_>>(), [0..SPAN, SPAN..2 * SPAN, 2 * SPAN..2 * SPAN + 1]);
        assert_eq!(spans(SPAN).count(), 1);
    }
}
