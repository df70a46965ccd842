//! Fetching from one server of a repository.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Client, Url};

use super::CvmfsError;
use crate::bundle::BundleObject;
use crate::object::{ContentHash, ObjectKind, Unpacker, unpack, verify};

/// Where a repository is, and how to get there.
#[derive(Debug, Clone)]
pub struct Server {
    base: Url,
    client: Client,
}

impl Server {
    /// A server by the URL of the repository on it, e.g. `http://stratum1/cvmfs/unpacked.cern.ch`, reached through
    /// `proxy` if given, else directly.
    pub fn new(url: &str, proxy: Option<&str>) -> Result<Self, CvmfsError> {
        let bad = |why: String| CvmfsError::BadUrl { url: url.to_owned(), why };
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/'))).map_err(|e| bad(e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad(format!("{} is not HTTP", base.scheme())));
        }
        let mut builder =
            Client::builder().connect_timeout(Duration::from_secs(10)).read_timeout(Duration::from_secs(30));
        builder = match proxy {
            None => builder.no_proxy(),
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| bad(format!("proxy {proxy:?}: {e}")))?),
        };
        Ok(Self { base, client: builder.build().map_err(|e| bad(e.to_string()))? })
    }

    /// Fetches a file below the repository's URL that is at most `limit` bytes long.
    pub async fn file(&self, path: &str, limit: u64) -> Result<Vec<u8>, CvmfsError> {
        let mut content = Vec::new();
        self.pieces(path, limit, |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(content)
    }

    /// Fetches a file below the repository's URL piece by piece; how many bytes it had, at most `limit`.
    async fn pieces(
        &self,
        path: &str,
        limit: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), CvmfsError>,
    ) -> Result<u64, CvmfsError> {
        let url = self.url(path)?;
        let transfer = |source| CvmfsError::Transfer { url: url.to_string(), source };
        let answer = self.client.get(url.clone()).send().await.map_err(transfer)?;
        if !answer.status().is_success() {
            return Err(CvmfsError::Status { url: url.to_string(), status: answer.status().as_u16() });
        }
        let (mut body, mut received) = (answer.bytes_stream(), 0);
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
        let stored = self.file(&hash.url_path(kind), most_stored(raw_size)).await?;
        Ok(unpack(hash, &stored, raw_size)?)
    }

    /// Fetches and verifies a small object of unknown size, at most `limit` bytes raw.
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
                why: format!("{hash} does not decompress to {limit} bytes or less: {e}"),
            })?;
        raw.truncate(size);
        Ok(raw)
    }

    /// How many bytes an object has on the server.
    pub async fn stored_size(&self, hash: &ContentHash, kind: ObjectKind) -> Result<u64, CvmfsError> {
        let url = self.url(&hash.url_path(kind))?;
        let answer = self.client.head(url.clone()).send().await;
        let answer = answer.map_err(|source| CvmfsError::Transfer { url: url.to_string(), source })?;
        if !answer.status().is_success() {
            return Err(CvmfsError::Status { url: url.to_string(), status: answer.status().as_u16() });
        }
        let length = answer.headers().get(reqwest::header::CONTENT_LENGTH);
        length.and_then(|l| l.to_str().ok()?.parse().ok()).ok_or_else(|| CvmfsError::BadUrl {
            url: url.to_string(),
            why: "the server does not tell the length of an object (no Content-Length)".to_owned(),
        })
    }

    /// Whether the server has an object, with as many bytes as a bundle says, if it says.
    pub async fn check_size(&self, object: &BundleObject) -> Result<(), CvmfsError> {
        let found = self.stored_size(&object.hash, object.kind).await?;
        self.is_size(object, found)
    }

    /// Whether the server has an object, and all its bytes are right. It is not kept in memory.
    pub async fn check_content(&self, object: &BundleObject) -> Result<(), CvmfsError> {
        let mut unpacker = Unpacker::new(object.hash, object.raw_size)?;
        let limit = if object.stored_size == 0 { most_stored(object.raw_size) } else { object.stored_size };
        let path = object.hash.url_path(object.kind);
        let received = self.pieces(&path, limit, |piece| unpacker.feed(piece, |_| Ok(()))).await?;
        unpacker.finish()?;
        self.is_size(object, received)
    }

    fn is_size(&self, object: &BundleObject, found: u64) -> Result<(), CvmfsError> {
        if object.stored_size == 0 || object.stored_size == found {
            return Ok(());
        }
        let url = self.url(&object.hash.url_path(object.kind))?.to_string();
        Err(CvmfsError::OtherSize { url, expected: object.stored_size, found })
    }

    fn url(&self, path: &str) -> Result<Url, CvmfsError> {
        self.base.join(path).map_err(|e| CvmfsError::BadUrl { url: format!("{}{path}", self.base), why: e.to_string() })
    }
}

/// zlib never makes data larger than by 5 bytes in 16 KB and a header.
fn most_stored(raw_size: u64) -> u64 {
    raw_size.saturating_add(raw_size / 1000).saturating_add(64)
}
