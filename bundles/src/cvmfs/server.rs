//! Fetching from one server of a repository.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Client, Url};

use super::CvmfsError;
use crate::object::{ContentHash, ObjectKind, Unpacker, unpack, verify};

/// A server of a repository, and how to reach it.
#[derive(Debug, Clone)]
pub struct Server {
    base: Url,
    client: Client,
}

impl Server {
    /// A server by the URL of the repository on it, such as `http://stratum1/cvmfs/unpacked.cern.ch`, reached
    /// through `proxy` if given, else directly.
    pub fn new(url: &str, proxy: Option<&str>) -> Result<Self, CvmfsError> {
        let invalid = |reason: String| CvmfsError::InvalidUrl { url: url.to_owned(), reason };
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/'))).map_err(|e| invalid(e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid(format!("{} is not HTTP", base.scheme())));
        }
        let mut builder =
            Client::builder().connect_timeout(Duration::from_secs(10)).read_timeout(Duration::from_secs(30));
        builder = match proxy {
            None => builder.no_proxy(),
            Some(proxy) => {
                builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| invalid(format!("proxy {proxy:?}: {e}")))?)
            }
        };
        Ok(Self { base, client: builder.build().map_err(|e| invalid(e.to_string()))? })
    }

    /// Fetches a file below the repository's URL of at most `limit` bytes.
    pub async fn file(&self, path: &str, limit: u64) -> Result<Vec<u8>, CvmfsError> {
        let mut content = Vec::new();
        self.pieces(path, limit, |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(content)
    }

    /// Fetches a file below the repository's URL piece by piece, and returns its size, which is at most
    /// `limit`.
    async fn pieces(
        &self,
        path: &str,
        limit: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), CvmfsError>,
    ) -> Result<u64, CvmfsError> {
        let url = self.url(path)?;
        let transfer = |source| CvmfsError::Transfer { url: url.to_string(), source };
        let response = self.client.get(url.clone()).send().await.map_err(transfer)?;
        if !response.status().is_success() {
            return Err(CvmfsError::Status { url: url.to_string(), status: response.status().as_u16() });
        }
        let mut body = response.bytes_stream();
        let mut received = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(transfer)?;
            received += piece.len() as u64;
            if received > limit {
                return Err(CvmfsError::TooLong { url: url.to_string(), limit });
            }
            take(&piece)?;
        }
        Ok(received)
    }

    /// Fetches and verifies an object of known raw size and returns its content.
    pub async fn object(&self, hash: &ContentHash, kind: ObjectKind, raw_size: u64) -> Result<Vec<u8>, CvmfsError> {
        let stored = self.file(&hash.url_path(kind), max_stored_size(raw_size)).await?;
        Ok(unpack(hash, &stored, raw_size)?)
    }

    /// Fetches and verifies a small object of unknown size, of at most `limit` raw bytes.
    pub async fn small_object(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        limit: usize,
    ) -> Result<Vec<u8>, CvmfsError> {
        let stored = self.file(&hash.url_path(kind), limit as u64).await?;
        verify(hash, &stored)?;
        let mut raw = vec![0; limit];
        let size =
            libdeflater::Decompressor::new().zlib_decompress(&stored, &mut raw).map_err(|e| CvmfsError::Malformed {
                file: "object",
                reason: format!("{hash} does not decompress to {limit} bytes or less: {e}"),
            })?;
        raw.truncate(size);
        Ok(raw)
    }

    /// The size of an object on the server.
    pub async fn stored_size(&self, hash: &ContentHash, kind: ObjectKind) -> Result<u64, CvmfsError> {
        let url = self.url(&hash.url_path(kind))?;
        let response = self.client.head(url.clone()).send().await;
        let response = response.map_err(|source| CvmfsError::Transfer { url: url.to_string(), source })?;
        if !response.status().is_success() {
            return Err(CvmfsError::Status { url: url.to_string(), status: response.status().as_u16() });
        }
        let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
        length.and_then(|l| l.to_str().ok()?.parse().ok()).ok_or_else(|| CvmfsError::InvalidUrl {
            url: url.to_string(),
            reason: "the server sends no Content-Length for an object".to_owned(),
        })
    }

    /// Checks that the server has an object and, unless `stored_size` is 0 (unknown), that it has that many bytes.
    pub async fn check_size(&self, hash: &ContentHash, kind: ObjectKind, stored_size: u64) -> Result<(), CvmfsError> {
        let found = self.stored_size(hash, kind).await?;
        self.expect_size(hash, kind, stored_size, found)
    }

    /// Fetches an object and checks its hash and its sizes; a `stored_size` of 0 is unknown. Memory use does not depend
    /// on the object's size.
    pub async fn check_content(
        &self,
        hash: &ContentHash,
        kind: ObjectKind,
        stored_size: u64,
        raw_size: u64,
    ) -> Result<(), CvmfsError> {
        let mut unpacker = Unpacker::new(*hash, raw_size)?;
        let limit = if stored_size == 0 { max_stored_size(raw_size) } else { stored_size };
        let received = self.pieces(&hash.url_path(kind), limit, |piece| unpacker.feed(piece, |_| Ok(()))).await?;
        unpacker.finish()?;
        self.expect_size(hash, kind, stored_size, received)
    }

    fn expect_size(&self, hash: &ContentHash, kind: ObjectKind, expected: u64, found: u64) -> Result<(), CvmfsError> {
        if expected == 0 || expected == found {
            return Ok(());
        }
        let url = self.url(&hash.url_path(kind))?.to_string();
        Err(CvmfsError::SizeMismatch { url, expected, found })
    }

    fn url(&self, path: &str) -> Result<Url, CvmfsError> {
        self.base
            .join(path)
            .map_err(|e| CvmfsError::InvalidUrl { url: format!("{}{path}", self.base), reason: e.to_string() })
    }
}

/// Upper bound of an object's stored size: zlib adds at most 5 bytes per 16 KB and a header.
fn max_stored_size(raw_size: u64) -> u64 {
    raw_size.saturating_add(raw_size / 1000).saturating_add(64)
}
