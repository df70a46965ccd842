//! HTTP as in the stock client: kept-alive connections, at most 16.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// The stock client's limit.
const CONNECTIONS: usize = 16;
/// The stock client's default timeout of a direct connection without a received byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Counts of a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Requests sent.
    pub requests: u64,
    /// Bytes of the bodies received.
    pub bytes: u64,
    /// Requests without a usable response.
    pub failures: u64,
    /// Objects found in the cache.
    pub hits: u64,
    /// Objects not found in the cache.
    pub misses: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

impl Counters {
    pub(super) fn statistics(&self) -> Statistics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            requests: load(&self.requests),
            bytes: load(&self.bytes),
            failures: load(&self.failures),
            hits: load(&self.hits),
            misses: load(&self.misses),
        }
    }
}

#[derive(Debug)]
pub(super) struct Downloader {
    /// One thread for all sockets.
    runtime: Runtime,
    http: reqwest::Client,
    connections: Semaphore,
    url: String,
    pub(super) counters: Counters,
}

impl Downloader {
    /// For the repository at `url`, through `proxy` if given (never through a proxy from the environment).
    pub(super) fn new(url: &str, proxy: Option<&str>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(TIMEOUT)
            .read_timeout(TIMEOUT)
            .pool_max_idle_per_host(CONNECTIONS);
        let http = match proxy {
            Some(proxy) => http.proxy(reqwest::Proxy::http(proxy).with_context(|| format!("bad proxy {proxy:?}"))?),
            None => http,
        };
        Ok(Self {
            runtime: Builder::new_multi_thread().worker_threads(1).thread_name("download").enable_all().build()?,
            http: http.build()?,
            connections: Semaphore::new(CONNECTIONS),
            url: url.trim_end_matches('/').to_owned(),
            counters: Counters::default(),
        })
    }

    /// The file at `path` below the repository's URL, as it is. Blocks.
    pub(super) fn get(&self, path: &str) -> Result<Bytes> {
        let url = format!("{}/{path}", self.url);
        let result = self.runtime.block_on(async {
            let _connection = self.connections.acquire().await?;
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            let response = self.http.get(&url).send().await?.error_for_status()?;
            anyhow::Ok(response.bytes().await?)
        });
        match &result {
            Ok(bytes) => self.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed),
            Err(_) => self.counters.failures.fetch_add(1, Ordering::Relaxed),
        };
        result.with_context(|| format!("cannot download {url}"))
    }
}
