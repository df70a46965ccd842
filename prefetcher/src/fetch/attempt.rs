//! One download with its retries: the same path over one route after the other, until an attempt succeeds.

use std::ops::Range;

use super::Fetcher;
use super::failover::{Retry, Routes, Try};
use super::failure::Failure;
use super::http::response::{self, Body, HttpRequest, StoredSize};
use super::limits::concurrency::Permit;
use super::limits::per_request::FetchPolicy;

/// What is downloaded, and within which limits. The same for all attempts.
#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) routes: &'a Routes,
    /// Path of the object below the URL of a server.
    pub(super) path: String,
    pub(super) size: StoredSize,
    /// Range of bytes to request, if not all.
    pub(super) range: Option<Range<u64>>,
    pub(super) policy: FetchPolicy<'a>,
}

/// One attempt at a download.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    fetcher: &'a Fetcher,
    download: &'a Download<'a>,
    current: Try,
}

/// A response with the expected status and length.
pub(super) struct Response<'a> {
    pub(super) body: Body<'a>,
    /// Occupies a connection of the proxy or server. Dropped when the body was read.
    pub(super) connection: Permit,
}

impl Fetcher {
    /// Runs `attempt` until one succeeds, over all routes and then again after pauses. Returns the failure that matters most if
    /// none does; at once if the cache cannot be written.
    pub(super) async fn with_retries<'a, T, F>(
        &'a self,
        download: &'a Download<'a>,
        attempt: impl Fn(Attempt<'a>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut retry = Retry::new(download.routes);
        while let Some(current) = retry.next().await {
            match attempt(Attempt { fetcher: self, download, current }).await {
                Err(failure) => retry.failed(failure)?,
                done => return done,
            }
        }
        Err(retry.failure())
    }
}

impl<'a> Attempt<'a> {
    /// Waits for a connection, sends the request and checks the head of the response. Reports the time until then to the
    /// concurrency limit.
    pub(super) async fn open(&self) -> Result<Response<'a>, Failure> {
        let Self { fetcher, download: Download { routes, path, size, range, policy }, current } = self;
        let connection = routes.acquire(current.route, policy.rank).await;
        let request = HttpRequest {
            url: routes.url(current.route, path),
            size: *size,
            range: range.clone(),
            bypass_cache: current.bypass_cache,
            rate_limit: policy.limit.bytes(),
        };
        let concurrency = routes.concurrency(current.route);
        let transfer = routes.upstream().policy;
        let timeout = transfer.timeout.max(transfer.timeout_direct);
        match response::send(routes.http(current.route), request, timeout, &fetcher.bandwidth).await {
            Ok((body, round_trip)) => {
                concurrency.record_round_trip(round_trip);
                Ok(Response { body, connection })
            }
            Err(failure) => {
                if failure.transient {
                    concurrency.record_overload();
                }
                Err(failure)
            }
        }
    }
}
