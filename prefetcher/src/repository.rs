//! What the daemon needs to know of one repository while it runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::info;

use crate::config::Config;
use crate::settings::Settings;
use crate::sink::capacity::{Allowed, Granted};
use crate::sink::choice::Kind;
use crate::sink::quota_manager::QuotaManager;
use crate::sink::{PosixCache, Rules, Sink, ThroughMount};
use crate::upstream::{Proxy, Upstream};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// What running requests have been granted of the sink.
    pub granted: Granted,
    preferred: AtomicUsize,
}

impl Repository {
    /// All repositories, by name. `readers` bounds what is read through mounts at a time.
    pub fn all(
        settings: Vec<Settings>,
        config: &Config,
        readers: &Arc<Semaphore>,
    ) -> Result<HashMap<String, Arc<Self>>, reqwest::Error> {
        let mut sinks: Vec<(Option<PathBuf>, Arc<dyn Sink>, Granted)> = Vec::new();
        let mut all = HashMap::new();
        for one in settings {
            let (name, kind, reason) = (&one.name, one.choice.kind, &one.choice.reason);
            info!(repository = name, sink = %kind, reason, servers = one.upstream.servers.len(), "repository");
            let directory = shared_directory(&one);
            let known = sinks.iter().position(|(path, ..)| path.is_some() && *path == directory);
            let sink_number = known.unwrap_or_else(|| {
                sinks.push((directory, sink(&one, config, readers), Granted::default()));
                sinks.len() - 1
            });
            let (_, sink, granted) = &sinks[sink_number];
            let repository = Self {
                name: one.name.clone(),
                mount: one.mount,
                http: http_client(&one.upstream, config)?,
                upstream: one.upstream,
                sink: sink.clone(),
                sink_number,
                granted: granted.clone(),
                preferred: AtomicUsize::new(0),
            };
            all.insert(one.name, Arc::new(repository));
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

/// The directory by which repositories with one cache are known to have it.
fn shared_directory(settings: &Settings) -> Option<PathBuf> {
    let directory = settings.choice.directory.as_ref().filter(|_| settings.choice.kind != Kind::Mount)?;
    Some(canonical(&directory.path))
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The sink that was chosen. Opens nothing.
pub fn sink(settings: &Settings, config: &Config, readers: &Arc<Semaphore>) -> Arc<dyn Sink> {
    let (kind, directory) = (settings.choice.kind, settings.choice.directory.as_ref());
    let allowed = Allowed { share: config.cache_share, quota: directory.and_then(|found| found.quota) };
    match directory.filter(|_| kind != Kind::Mount) {
        Some(found) => {
            let rules = match kind {
                Kind::Managed => Rules::Client,
                Kind::Lower if found.has_quota_manager() => Rules::Client,
                _ => Rules::Group,
            };
            let manager = found.has_quota_manager().then(|| QuotaManager::in_workspace(&found.workspace));
            Arc::new(PosixCache::with(&canonical(&found.path), rules, allowed, manager))
        }
        None => {
            let deadline = Duration::from_secs(config.lookup_timeout_s);
            Arc::new(ThroughMount::new(&settings.mount, allowed, deadline, readers.clone()))
        }
    }
}

fn http_client(upstream: &Upstream, config: &Config) -> Result<reqwest::Client, reqwest::Error> {
    let proxy = upstream.proxies.iter().flatten().find_map(|proxy| match proxy {
        Proxy::Via(url) => Some(url),
        Proxy::Direct => None,
    });
    let timeout = if proxy.is_some() { upstream.timeout } else { upstream.timeout_direct };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cvmfs-prefetchd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .read_timeout(timeout)
        .pool_max_idle_per_host(config.connections)
        // A stratum does not redirect; a captive portal does.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // The environment's proxy variables are not for a daemon.
        .no_proxy();
    if let Some(proxy) = proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy)?);
    }
    if upstream.servers.iter().chain(proxy).all(|url| url.starts_with("http://")) {
        // No need for the machine's certificates, which may be missing.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}
