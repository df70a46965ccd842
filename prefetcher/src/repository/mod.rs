//! A configured repository: where its objects come from and where they go.

pub mod cache_choice;
pub mod check;
mod served;
pub mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::mount::Mount;
use tokio::sync::Semaphore;

use crate::cache::cache_manager::CacheManager;
use crate::cache::capacity::{Allowed, Granted};
use crate::cache::file_system::default_reserve;
use crate::cache::{Destination, DestinationId, Directory, MountReader, PosixCache, Rules};
use crate::config::Config;
use crate::fetch::Target;
use crate::fetch::failover::Routes;
use cache_choice::Kind;
pub use served::{ByName, Served};
use settings::Settings;

/// One configured repository.
#[derive(Debug)]
pub struct Repository {
    /// Fully qualified name.
    pub name: String,
    /// Its mount, through its guard.
    pub mount: Mount,
    /// Proxies and servers that its objects are downloaded from.
    pub routes: Arc<Routes>,
    /// Where its objects go.
    pub destination: Destination,
    /// Tells destinations apart.
    pub destination_id: DestinationId,
    /// Bytes of the destination that the running requests have been granted, and those written during the last hour.
    pub granted: Granted,
}

impl Repository {
    /// The repository as the fetcher sees it, with `cache` as the destination.
    pub fn target<'a>(&'a self, cache: &'a PosixCache) -> Target<'a> {
        Target { repository: &self.name, routes: &self.routes, cache, destination_id: self.destination_id }
    }
}

/// The cache directory that was chosen; none if objects are read through the mount.
fn directory(settings: &Settings) -> Option<PathBuf> {
    let directory = settings.choice.directory.as_ref().filter(|_| settings.choice.kind != Kind::Mount)?;
    Some(canonical(&directory.path))
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The share of the cache's file system that stays free.
fn reserve(config: &Config, cache: Option<&Path>) -> f64 {
    config.disk_reserve.unwrap_or_else(|| cache.map_or(0.0, default_reserve))
}

/// The destination that was chosen. Opens nothing. If it is the directory of `earlier`, that is reconfigured.
pub fn destination(
    settings: &Settings,
    config: &Config,
    readers: &Arc<Semaphore>,
    earlier: Option<&Destination>,
) -> Destination {
    let (kind, found) = (settings.choice.kind, settings.choice.directory.as_ref());
    let allowed = Allowed {
        share: config.cache_share,
        hourly_share: config.cache_share_per_hour,
        quota: found.and_then(|found| found.quota),
        reserve: reserve(config, found.map(|found| found.path.as_path())),
    };
    match (found, directory(settings)) {
        (Some(found), Some(dir)) => {
            let rules = match kind {
                Kind::Managed => Rules::Client,
                Kind::Lower if found.has_cache_manager() => Rules::Client,
                _ => Rules::Group,
            };
            let workspace = found.has_cache_manager().then_some(found.workspace.as_path());
            let directory = Directory { dir, rules, pause: Some(found.pause.clone()) };
            Destination::Cache(match earlier {
                Some(Destination::Cache(earlier)) => earlier.reconfigured(directory, allowed, workspace),
                _ => PosixCache::with(directory, allowed, workspace.map(CacheManager::in_workspace)),
            })
        }
        _ => {
            let timeout = config.lookup_timeout;
            Destination::ThroughMount(MountReader::new(settings.mount.clone(), allowed, timeout, readers.clone()))
        }
    }
}
