//! What the daemon needs to know of one repository while it runs.

pub mod cache_choice;
pub mod check;
pub mod settings;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::mount::Mount;
use tokio::sync::Semaphore;
use tracing::info;

use crate::cache::capacity::{Allowed, Granted};
use crate::cache::quota_manager::QuotaManager;
use crate::cache::{PosixCache, Rules, Sink, ThroughMount};
use crate::config::Config;
use crate::fetch::Target;
use crate::fetch::failover::Routes;
use crate::fetch::limits::per_proxy::ProxyLimits;
use cache_choice::Kind;
use settings::Settings;

/// One configured repository.
#[derive(Debug)]
pub struct Repository {
    /// Fully qualified name.
    pub name: String,
    /// Where it is mounted.
    pub mount: Mount,
    /// Where its objects come from.
    pub routes: Routes,
    /// Where its objects go.
    pub sink: Arc<dyn Sink>,
    /// Tells sinks apart. Repositories that share a cache share the number.
    pub sink_number: usize,
    /// What running requests have been granted of the sink.
    pub granted: Granted,
}

impl Repository {
    /// All repositories, by name. `readers` bounds what is read through mounts at a time.
    pub fn all(
        settings: Vec<Settings>,
        config: &Config,
        readers: &Arc<Semaphore>,
    ) -> Result<HashMap<String, Arc<Self>>, reqwest::Error> {
        let mut sinks: Vec<(Option<PathBuf>, Arc<dyn Sink>, Granted)> = Vec::new();
        let (mut all, paces) = (HashMap::new(), ProxyLimits::new(config.max_requests_per_second));
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
                routes: Routes::new(one.upstream, config.max_connections, &paces)?,
                sink: sink.clone(),
                sink_number,
                granted: granted.clone(),
            };
            all.insert(one.name, Arc::new(repository));
        }
        Ok(all)
    }

    /// What the fetcher needs to know of the repository.
    pub fn target(&self) -> Target<'_> {
        let Self { name, routes, sink, sink_number, .. } = self;
        Target { repository: name, routes, sink, sink_number: *sink_number }
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
        None => Arc::new(ThroughMount::new(settings.mount.clone(), allowed, config.lookup_timeout, readers.clone())),
    }
}
