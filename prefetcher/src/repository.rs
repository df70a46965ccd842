//! What the daemon needs to know of one repository while it runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::{Config, RepositoryConfig};
use crate::sink::{PosixCache, Sink};
use crate::upstream::{Proxy, Upstream};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// One configured repository.
#[derive(Debug)]
pub struct Repository {
    /// Fully qualified name.
    pub name: String,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Where its objects come from.
    pub upstream: Upstream,
    /// Has the repository's proxy, time-outs and idle connections.
    pub http: reqwest::Client,
    /// Where its objects go.
    pub sink: Arc<dyn Sink>,
    /// Tells sinks apart. Repositories that share a cache share the number.
    pub sink_number: usize,
    preferred: AtomicUsize,
}

impl Repository {
    /// All repositories of `config`, by name.
    pub fn all(config: &Config) -> Result<HashMap<String, Arc<Self>>, reqwest::Error> {
        let mut sinks: Vec<(PathBuf, Arc<dyn Sink>)> = Vec::new();
        let mut all = HashMap::new();
        for one in &config.repositories {
            let cache = one.cache.canonicalize().unwrap_or_else(|_| one.cache.clone());
            let known = sinks.iter().position(|(path, _)| *path == cache);
            let sink_number = known.unwrap_or_else(|| {
                sinks.push((cache.clone(), Arc::new(PosixCache::new(&cache))));
                sinks.len() - 1
            });
            let repository = Self {
                name: one.name.clone(),
                mount: one.mount(),
                upstream: upstream(one, config),
                http: http_client(one, config)?,
                sink: sinks[sink_number].1.clone(),
                sink_number,
                preferred: AtomicUsize::new(0),
            };
            all.insert(one.name.clone(), Arc::new(repository));
        }
        Ok(all)
    }

    /// The order in which to try the servers now: from the one that last did not fail, round.
    pub fn server_order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.upstream.servers.len());
        (0..count).map(move |i| (first + i) % count)
    }

    /// Server `at` did not do its job: the next object starts with the one behind it.
    pub fn avoid(&self, at: usize) {
        let next = (at + 1) % self.upstream.servers.len();
        // Of many failures at a time only the first moves the preference.
        let _ = self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn upstream(repository: &RepositoryConfig, config: &Config) -> Upstream {
    let timeout = Duration::from_secs(config.timeout_s);
    Upstream {
        servers: repository.servers.clone(),
        proxies: vec![vec![repository.proxy.clone().map_or(Proxy::Direct, Proxy::Via)]],
        timeout,
        timeout_direct: timeout,
        retries: config.retries,
        first_pause: FIRST_PAUSE,
        longest_pause: LONGEST_PAUSE,
    }
}

fn http_client(repository: &RepositoryConfig, config: &Config) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cvmfs-prefetchd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT.min(Duration::from_secs(config.timeout_s)))
        .read_timeout(Duration::from_secs(config.timeout_s))
        .pool_max_idle_per_host(config.connections)
        // A stratum does not redirect; a captive portal does.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The environment's proxy variables are not for a daemon.
        .no_proxy();
    if let Some(proxy) = &repository.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy)?);
    }
    if repository.servers.iter().chain(&repository.proxy).all(|url| url.starts_with("http://")) {
        // No need for the machine's certificates, which may be missing.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}
