//! A configured repository: where its objects come from and where they go.

pub mod cache_choice;
pub mod check;
pub mod settings;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::mount::Mount;
use tokio::sync::Semaphore;
use tracing::info;

use crate::cache::cache_manager::CacheManager;
use crate::cache::capacity::{Allowed, Granted};
use crate::cache::{Destination, DestinationId, MountReader, PosixCache, Rules};
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
    /// Its mount, through its guard.
    pub mount: Mount,
    /// Proxies and servers that its objects are downloaded from.
    pub routes: Routes,
    /// Where its objects go.
    pub destination: Destination,
    /// Tells destinations apart.
    pub destination_id: DestinationId,
    /// Bytes of the destination that the running requests have been granted.
    pub granted: Granted,
}

impl Repository {
    /// All repositories, by name. `readers` limits the reads through all mounts at a time.
    pub fn all(
        all_settings: Vec<Settings>,
        config: &Config,
        readers: &Arc<Semaphore>,
    ) -> Result<HashMap<String, Arc<Self>>, reqwest::Error> {
        let mut destinations: Vec<(Option<PathBuf>, Destination, Granted)> = Vec::new();
        let mut all = HashMap::new();
        let proxy_limits = ProxyLimits::new(config.max_requests_per_second);
        for settings in all_settings {
            let Settings { name, upstream, choice, .. } = &settings;
            let (kind, reason, servers) = (choice.kind, &choice.reason, upstream.servers.len());
            info!(repository = name, destination = %kind, reason, servers, "repository");
            let directory = shared_directory(&settings);
            let shared = destinations.iter().position(|(path, ..)| path.is_some() && *path == directory);
            let number = shared.unwrap_or_else(|| {
                destinations.push((directory, destination(&settings, config, readers), Granted::default()));
                destinations.len() - 1
            });
            let (_, destination, granted) = &destinations[number];
            let repository = Self {
                name: name.clone(),
                mount: settings.mount,
                routes: Routes::new(settings.upstream, config.max_connections, &proxy_limits)?,
                destination: destination.clone(),
                destination_id: DestinationId::new(number),
                granted: granted.clone(),
            };
            all.insert(settings.name, Arc::new(repository));
        }
        Ok(all)
    }

    /// The repository as the fetcher sees it, with `cache` as the destination.
    pub fn target<'a>(&'a self, cache: &'a PosixCache) -> Target<'a> {
        Target { repository: &self.name, routes: &self.routes, cache, destination_id: self.destination_id }
    }
}

/// The directory by which repositories that share a cache are recognised.
fn shared_directory(settings: &Settings) -> Option<PathBuf> {
    let directory = settings.choice.directory.as_ref().filter(|_| settings.choice.kind != Kind::Mount)?;
    Some(canonical(&directory.path))
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The destination that was chosen. Opens nothing.
pub fn destination(settings: &Settings, config: &Config, readers: &Arc<Semaphore>) -> Destination {
    let (kind, directory) = (settings.choice.kind, settings.choice.directory.as_ref());
    let allowed = Allowed { share: config.cache_share, quota: directory.and_then(|found| found.quota) };
    match directory.filter(|_| kind != Kind::Mount) {
        Some(found) => {
            let rules = match kind {
                Kind::Managed => Rules::Client,
                Kind::Lower if found.has_cache_manager() => Rules::Client,
                _ => Rules::Group,
            };
            let manager = found.has_cache_manager().then(|| CacheManager::in_workspace(&found.workspace));
            Destination::Cache(PosixCache::with(&canonical(&found.path), rules, allowed, manager))
        }
        None => {
            let timeout = config.lookup_timeout;
            Destination::ThroughMount(MountReader::new(settings.mount.clone(), allowed, timeout, readers.clone()))
        }
    }
}
