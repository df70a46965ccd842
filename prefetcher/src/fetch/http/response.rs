//! One HTTP request and its response. Status, length and time are checked here, the content is not.

use std::ops::Range;
use std::time::{Duration, Instant};

use bundles::bundle::BundleObject;
use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, CONTENT_RANGE, RANGE};

use crate::fetch::failure::{Blame, Failure};
use crate::fetch::limits::bandwidth::Bandwidth;
use crate::fetch::limits::token_bucket::TokenBucket;

/// Minimum rate of a link, in bytes per second. It bounds the time for large responses.
const MIN_BYTES_PER_SECOND: u64 = 32 << 10;

/// One HTTP request.
#[derive(Debug, Clone)]
pub struct HttpRequest<'a> {
    /// URL of the object.
    pub url: String,
    /// Expected size of the object.
    pub size: StoredSize,
    /// Range of bytes to request, if not all.
    pub range: Option<Range<u64>>,
    /// Whether proxies must not answer from their caches, because an earlier answer had wrong bytes.
    pub bypass_cache: bool,
    /// Rate limit of the prefetch request, in addition to the node's.
    pub rate_limit: &'a TokenBucket,
}

/// The body of a response with the expected status and length.
pub struct Body<'a> {
    response: reqwest::Response,
    received: u64,
    size: StoredSize,
    time: TimeBudget,
    bandwidth: &'a Bandwidth,
    rate_limit: &'a TokenBucket,
}

/// Time that a server may take for a response, however steadily its bytes trickle. Time in which we do not read does not count.
#[derive(Debug, Clone, Copy)]
struct TimeBudget {
    total: Duration,
    left: Duration,
}

/// How many stored bytes a response may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSize {
    /// The exact size, if it is known.
    pub exact: Option<u64>,
    /// Maximum number of bytes to read.
    pub max: u64,
}

impl StoredSize {
    /// The size of `object` as its bundle has it.
    pub fn of_object(object: &BundleObject) -> Self {
        match object.stored_size {
            0 => Self::compressed(object.raw_size),
            size => Self::exactly(size),
        }
    }

    /// Exactly `size` bytes.
    pub fn exactly(size: u64) -> Self {
        Self { exact: Some(size), max: size }
    }

    /// At most what `raw_size` bytes take when compressed. zlib's own bound for incompressible bytes is far below.
    pub fn compressed(raw_size: u64) -> Self {
        Self { exact: None, max: raw_size.saturating_add(raw_size / 8).saturating_add(1024) }
    }

    /// Returns the time for a whole response whose first byte may take `timeout`.
    pub fn time(&self, timeout: Duration) -> Duration {
        timeout.saturating_mul(2).saturating_add(Duration::from_secs(self.max / MIN_BYTES_PER_SECOND))
    }

    fn check_announced(&self, length: u64) -> Result<(), Failure> {
        let expected = match self.exact {
            Some(exact) if length != exact => format!("{exact} are expected"),
            _ if length > self.max => format!("at most {} fit", self.max),
            _ => return Ok(()),
        };
        Err(Failure::wrong(format!("the server announces {length} bytes, {expected}")))
    }
}

/// Sends a request and checks the head of the response, which may take `timeout`. Also returns the time until it arrived.
pub async fn send<'a>(
    http: &reqwest::Client,
    request: HttpRequest<'a>,
    timeout: Duration,
    bandwidth: &'a Bandwidth,
) -> Result<(Body<'a>, Duration), Failure> {
    let HttpRequest { url, size, range, bypass_cache, rate_limit } = request;
    let mut request = http.get(&url);
    if let Some(Range { start, end }) = &range {
        request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
    }
    if bypass_cache {
        request = request.header(CACHE_CONTROL, "no-cache");
    }
    let sent = Instant::now();
    let mut time = TimeBudget::new(size.time(timeout));
    let response =
        time.limit(request.send()).await.ok_or_else(|| time.exceeded(&url))?.map_err(|e| transfer(&url, &e))?;
    let round_trip = sent.elapsed();
    let about_url = |failure: Failure| Failure { why: format!("{url}: {failure}"), ..failure };
    check_head(&response, range.as_ref()).map_err(about_url)?;
    let size = range.as_ref().map_or(size, |range| StoredSize::exactly(range.end - range.start));
    if let Some(length) = response.content_length() {
        size.check_announced(length).map_err(about_url)?;
    }
    Ok((Body { response, received: 0, size, time, bandwidth, rate_limit }, round_trip))
}

fn check_head(response: &reqwest::Response, range: Option<&Range<u64>>) -> Result<(), Failure> {
    let status = response.status();
    let expected = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if status != expected {
        let why = format!("the server answered {status}");
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Failure::transient(why),
            status if status.is_server_error() => Failure::transient(why),
            StatusCode::NOT_FOUND | StatusCode::GONE => Failure::absent(why),
            // The proxy refuses, or a captive portal asks for a log-in.
            StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Failure::refused(why).by(Blame::Proxy),
            status if status.is_redirection() => Failure::refused(why).by(Blame::Proxy),
            _ => Failure::refused(why),
        });
    }
    if let Some(Range { start, end }) = range {
        let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let sent = header.strip_prefix("bytes ").and_then(|value| value.split('/').next()).unwrap_or_default();
        if sent != format!("{start}-{}", end.saturating_sub(1)) {
            return Err(Failure::wrong(format!("the server sent the range {sent:?}, requested was {start} to {end}")));
        }
    }
    Ok(())
}

impl TimeBudget {
    fn new(total: Duration) -> Self {
        Self { total, left: total }
    }

    /// The result of `work`, or nothing if the time is up.
    async fn limit<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        let done = tokio::time::timeout(self.left, work).await.ok();
        self.left = self.left.saturating_sub(started.elapsed());
        done
    }

    fn exceeded(&self, url: &str) -> Failure {
        Failure::transient(format!("{url}: not done after {} s", self.total.as_secs())).by(Blame::Proxy)
    }
}

impl Body<'_> {
    /// Returns the next bytes; `None` at the end. It is an error if the body ends early.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        // A copy, because the response cannot lend its URL while it is read.
        let mut time = self.time;
        let piece = match time.limit(self.response.chunk()).await {
            Some(Ok(piece)) => piece,
            Some(Err(e)) => return Err(transfer(self.response.url().as_str(), &e)),
            None => return Err(time.exceeded(self.response.url().as_str())),
        };
        self.time = time;
        let length = piece.as_ref().map_or(0, |p| p.len() as u64);
        self.received += length;
        let StoredSize { exact, max } = self.size;
        let url = self.response.url();
        if self.received > max {
            return Err(Failure::wrong(format!("{url}: the body has more than {max} bytes")));
        }
        if let (None, Some(exact)) = (&piece, exact)
            && self.received < exact
        {
            let received = self.received;
            return Err(
                Failure::transient(format!("{url}: the body ended after {received} of {exact} bytes")).by(Blame::Proxy)
            );
        }
        self.bandwidth.take(length, self.rate_limit).await;
        Ok(piece)
    }

    /// Number of bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads the whole body into memory.
    pub async fn whole(mut self) -> Result<Vec<u8>, Failure> {
        let mut stored = Vec::with_capacity(self.size.exact.unwrap_or(0) as usize);
        while let Some(piece) = self.next().await? {
            stored.extend_from_slice(piece.as_ref());
        }
        Ok(stored)
    }

    /// Reads at least `size` bytes, fewer only at the end, none after it.
    pub async fn piece(&mut self, size: usize) -> Result<Vec<u8>, Failure> {
        let mut piece = Vec::with_capacity(size + (64 << 10));
        while piece.len() < size {
            match self.next().await? {
                Some(bytes) => piece.extend_from_slice(bytes.as_ref()),
                None => break,
            }
        }
        Ok(piece)
    }
}

/// A failure with the whole chain of causes, which reqwest's messages leave out.
fn transfer(url: &str, error: &reqwest::Error) -> Failure {
    let mut why = String::new();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        let text = error.to_string();
        if !why.contains(&text) {
            why = if why.is_empty() { text } else { format!("{why}: {text}") };
        }
        source = error.source();
    }
    if !why.contains(url) {
        why = format!("{url}: {why}");
    }
    if why.contains("UnknownIssuer") {
        why.push_str("; to trust its authority, set certificates = \"...\"");
    }
    Failure::transient(why).by(Blame::Proxy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_response_ends_when_its_time_is_up() {
        let mut time = TimeBudget::new(Duration::from_millis(20));
        assert_eq!(time.limit(async { 1 }).await, Some(1));
        assert_eq!(time.limit(std::future::pending::<()>()).await, None);
        assert_eq!((time.left, time.limit(std::future::pending::<()>()).await), (Duration::ZERO, None));
    }

    #[test]
    fn lengths_are_bounded() {
        let known = StoredSize::exactly(10);
        assert!(known.check_announced(10).is_ok());
        for length in [0, 9, 11] {
            assert!(known.check_announced(length).is_err());
        }
        let unknown = StoredSize { exact: None, max: 100 };
        assert!(unknown.check_announced(3).is_ok() && unknown.check_announced(101).is_err());
        assert!(StoredSize { exact: None, max: u64::MAX }.time(Duration::from_secs(1)) > Duration::from_secs(1));
    }
}
