//! One object over HTTP from one server: status, length and pace checked, content not.

use std::time::Duration;

use bundles::bundle::BundleObject;
use reqwest::StatusCode;

use super::failure::Failure;

/// The slowest line that is worth waiting for, in bytes per second.
const SLOWEST: u64 = 32 << 10;
/// What every object may take on top.
const GRACE: Duration = Duration::from_secs(30);

/// A response whose head was right.
pub struct Body {
    response: reqwest::Response,
    received: u64,
    limits: Limits,
}

/// How many stored bytes an object may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The exact number, if the bundle tells.
    pub exact: Option<u64>,
    /// The most to read.
    pub most: u64,
}

impl Limits {
    /// What the bundle says of `object`.
    pub fn of(object: &BundleObject) -> Self {
        match object.stored_size {
            // zlib's own bound on what it makes of incompressible data is far below.
            0 => Self { exact: None, most: object.raw_size.saturating_add(object.raw_size / 8).saturating_add(1024) },
            size => Self { exact: Some(size), most: size },
        }
    }

    /// When to give up, however steadily the bytes trickle.
    pub fn deadline(&self) -> Duration {
        GRACE.saturating_add(Duration::from_secs(self.most / SLOWEST))
    }
}

/// Asks for `url`.
pub async fn open(http: &reqwest::Client, url: &str, limits: Limits) -> Result<Body, Failure> {
    let response = http.get(url).send().await.map_err(|e| transfer(url, &e))?;
    let status = response.status();
    if status != StatusCode::OK {
        let why = format!("{url}: the server answered {status}");
        let passing =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        return Err(if passing { Failure::transient(why) } else { Failure::refused(why) });
    }
    if let Some(length) = response.content_length() {
        limits.check_announced(length).map_err(|why| Failure::wrong(format!("{url}: {why}")))?;
    }
    Ok(Body { response, received: 0, limits })
}

impl Limits {
    fn check_announced(&self, length: u64) -> Result<(), String> {
        match self.exact {
            Some(exact) if length != exact => {
                Err(format!("the server announces {length} bytes, the bundle says {exact}"))
            }
            _ if length > self.most => Err(format!("the server announces {length} bytes, at most {} fit", self.most)),
            _ => Ok(()),
        }
    }
}

impl Body {
    /// The next bytes; `None` at the end, which comes only when all are there.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        let piece = match self.response.chunk().await {
            Ok(piece) => piece,
            Err(e) => return Err(transfer(self.response.url().as_str(), &e)),
        };
        self.received += piece.as_ref().map_or(0, |p| p.len() as u64);
        let Limits { exact, most } = self.limits;
        let url = self.response.url();
        if self.received > most {
            return Err(Failure::wrong(format!("{url}: more than {most} bytes came")));
        }
        if let (None, Some(exact)) = (&piece, exact)
            && self.received < exact
        {
            let received = self.received;
            return Err(Failure::transient(format!("{url}: the body ended after {received} of {exact} bytes")));
        }
        Ok(piece)
    }

    /// Bytes so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// All of a small object.
    pub async fn whole(mut self) -> Result<Vec<u8>, Failure> {
        let mut stored = Vec::with_capacity(self.limits.exact.unwrap_or(0) as usize);
        while let Some(piece) = self.next().await? {
            stored.extend_from_slice(piece.as_ref());
        }
        Ok(stored)
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
    Failure::transient(why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_are_bounded_by_the_bundle() {
        let known = Limits { exact: Some(10), most: 10 };
        assert!(known.check_announced(10).is_ok());
        for length in [0, 9, 11] {
            assert!(known.check_announced(length).is_err());
        }
        let unknown = Limits { exact: None, most: 100 };
        assert!(unknown.check_announced(3).is_ok() && unknown.check_announced(101).is_err());
        assert!(Limits { exact: None, most: u64::MAX }.deadline() > GRACE);
    }
}
