//! One answer of one server: status, length and pace checked, content not.

use std::ops::Range;
use std::time::{Duration, Instant};

use bundles::bundle::BundleObject;
use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, CONTENT_RANGE, RANGE};

use crate::fetch::failure::{Blame, Failure};
use crate::fetch::limits::bandwidth::Bandwidth;
use crate::fetch::limits::token_bucket::TokenBucket;

/// The slowest line that is worth waiting for, in bytes per second.
const SLOWEST: u64 = 32 << 10;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// Where.
    pub url: &'a str,
    /// How long it may be.
    pub limits: Limits,
    /// Only these of its bytes.
    pub range: Option<Range<u64>>,
    /// What a proxy keeps is not to be trusted: it gave wrong bytes.
    pub fresh: bool,
    /// Bytes a second for who asks, beside the node's.
    pub own: &'a TokenBucket,
}

/// A response whose head was right.
pub struct Body<'a> {
    response: reqwest::Response,
    received: u64,
    limits: Limits,
    deadline: Deadline,
    bandwidth: &'a Bandwidth,
    own: &'a TokenBucket,
}

/// How long a server may take for an answer, however steadily its bytes trickle. Time in which we do not read is not its.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    all: Duration,
    left: Duration,
}

/// How many stored bytes an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The exact number, if it is known.
    pub exact: Option<u64>,
    /// The most to read.
    pub most: u64,
}

impl Limits {
    /// What the bundle says of `object`.
    pub fn of(object: &BundleObject) -> Self {
        match object.stored_size {
            0 => Self::compressed(object.raw_size),
            size => Self::exactly(size),
        }
    }

    /// So many bytes.
    pub fn exactly(size: u64) -> Self {
        Self { exact: Some(size), most: size }
    }

    /// What becomes of `raw_size` bytes when they are compressed. zlib's own bound for bytes that cannot be is far below.
    pub fn compressed(raw_size: u64) -> Self {
        Self { exact: None, most: raw_size.saturating_add(raw_size / 8).saturating_add(1024) }
    }

    /// When to give up, if an answer may take `patience` to begin.
    pub fn deadline(&self, patience: Duration) -> Duration {
        patience.saturating_mul(2).saturating_add(Duration::from_secs(self.most / SLOWEST))
    }

    fn check_announced(&self, length: u64) -> Result<(), String> {
        match self.exact {
            Some(exact) if length != exact => Err(format!("the server announces {length} bytes, {exact} are expected")),
            _ if length > self.most => Err(format!("the server announces {length} bytes, at most {} fit", self.most)),
            _ => Ok(()),
        }
    }
}

/// Asks, and checks the head of the answer, which may take `patience`. Gives the time until it came, too.
pub async fn open<'a>(
    http: &reqwest::Client,
    ask: &Ask<'a>,
    patience: Duration,
    bandwidth: &'a Bandwidth,
) -> Result<(Body<'a>, Duration), Failure> {
    let Ask { url, limits, range, fresh, own } = ask;
    let mut request = http.get(*url);
    if let Some(Range { start, end }) = range {
        request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
    }
    if *fresh {
        request = request.header(CACHE_CONTROL, "no-cache");
    }
    let asked = Instant::now();
    let mut deadline = Deadline::new(limits.deadline(patience));
    let response =
        deadline.within(request.send()).await.ok_or_else(|| deadline.passed(url))?.map_err(|e| transfer(url, &e))?;
    let took = asked.elapsed();
    check_head(&response, range.as_ref()).map_err(|failure| Failure { why: format!("{url}: {failure}"), ..failure })?;
    let limits = range.as_ref().map_or(*limits, |range| Limits::exactly(range.end - range.start));
    if let Some(length) = response.content_length() {
        limits.check_announced(length).map_err(|why| Failure::wrong(format!("{url}: {why}")))?;
    }
    Ok((Body { response, received: 0, limits, deadline, bandwidth, own }, took))
}

fn check_head(response: &reqwest::Response, range: Option<&Range<u64>>) -> Result<(), Failure> {
    let status = response.status();
    let expected = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    if status != expected {
        let why = format!("the server answered {status}");
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Failure::transient(why),
            status if status.is_server_error() => Failure::transient(why),
            // It is the proxy that lets nobody through, or somebody on the way who wants a log-in.
            StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Failure::refused(why).by(Blame::Proxy),
            status if status.is_redirection() => Failure::refused(why).by(Blame::Proxy),
            _ => Failure::refused(why),
        });
    }
    if let Some(Range { start, end }) = range {
        let said = response.headers().get(CONTENT_RANGE).and_then(|said| said.to_str().ok()).unwrap_or_default();
        let said = said.strip_prefix("bytes ").and_then(|said| said.split('/').next()).unwrap_or_default();
        if said != format!("{start}-{}", end.saturating_sub(1)) {
            return Err(Failure::wrong(format!("the server sends the range {said:?}, {start} to {end} was asked for")));
        }
    }
    Ok(())
}

impl Deadline {
    fn new(all: Duration) -> Self {
        Self { all, left: all }
    }

    /// What `work` comes to, if that is in time.
    async fn within<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let started = Instant::now();
        let done = tokio::time::timeout(self.left, work).await.ok();
        self.left = self.left.saturating_sub(started.elapsed());
        done
    }

    fn passed(&self, url: &str) -> Failure {
        Failure::transient(format!("{url}: not done after {} s", self.all.as_secs())).by(Blame::Proxy)
    }
}

impl Body<'_> {
    /// The next bytes; `None` at the end, which comes only when all are there.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        // The response lends its URL only while it is not read.
        let mut deadline = self.deadline;
        let piece = match deadline.within(self.response.chunk()).await {
            Some(Ok(piece)) => piece,
            Some(Err(e)) => return Err(transfer(self.response.url().as_str(), &e)),
            None => return Err(deadline.passed(self.response.url().as_str())),
        };
        self.deadline = deadline;
        let length = piece.as_ref().map_or(0, |p| p.len() as u64);
        self.received += length;
        let Limits { exact, most } = self.limits;
        let url = self.response.url();
        if self.received > most {
            return Err(Failure::wrong(format!("{url}: more than {most} bytes came")));
        }
        if let (None, Some(exact)) = (&piece, exact)
            && self.received < exact
        {
            let received = self.received;
            return Err(
                Failure::transient(format!("{url}: the body ended after {received} of {exact} bytes")).by(Blame::Proxy)
            );
        }
        self.bandwidth.take(length, self.own).await;
        Ok(piece)
    }

    /// Bytes so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// All of it.
    pub async fn whole(mut self) -> Result<Vec<u8>, Failure> {
        let mut stored = Vec::with_capacity(self.limits.exact.unwrap_or(0) as usize);
        while let Some(piece) = self.next().await? {
            stored.extend_from_slice(piece.as_ref());
        }
        Ok(stored)
    }

    /// At least `size` bytes, unless it ends before; nothing at the end.
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

/// reqwest's messages leave out the cause; it is what one wants to know.
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
        why.push_str("; if its authority is to be trusted, name it: certificates = \"...\"");
    }
    Failure::transient(why).by(Blame::Proxy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_server_has_its_time_and_no_more() {
        let mut deadline = Deadline::new(Duration::from_millis(20));
        assert_eq!(deadline.within(async { 1 }).await, Some(1));
        assert_eq!(deadline.within(std::future::pending::<()>()).await, None);
        assert_eq!((deadline.left, deadline.within(std::future::pending::<()>()).await), (Duration::ZERO, None));
    }

    #[test]
    fn lengths_are_bounded() {
        let known = Limits::exactly(10);
        assert!(known.check_announced(10).is_ok());
        for length in [0, 9, 11] {
            assert!(known.check_announced(length).is_err());
        }
        let unknown = Limits { exact: None, most: 100 };
        assert!(unknown.check_announced(3).is_ok() && unknown.check_announced(101).is_err());
        assert!(Limits { exact: None, most: u64::MAX }.deadline(Duration::from_secs(1)) > Duration::from_secs(1));
    }
}
