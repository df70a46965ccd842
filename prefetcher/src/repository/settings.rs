//! What each repository is served with: our configuration, over that of the node's CVMFS client, over what the live mount
//! tells.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::Duration;

use node::cvmfs_client::cache::{CacheDirectory, ClientCache, client_cache};
use node::cvmfs_client::mounted::LiveClient;
use node::cvmfs_client::parameters::{ClientConfiguration, ParametersError};
use node::cvmfs_client::proxy::Proxy;
use node::cvmfs_client::shell::Values;
use node::cvmfs_client::transfer::{self, ProxyGroups, TransferPolicy};
use node::mount::Mount;

use super::cache_choice::{Access, Choice, Kind, choose};
use crate::cache::mount_reader::READS;
use crate::config::{Config, DestinationChoice, RepositoryConfig};
use crate::fetch::failover::Upstream;

/// Pauses between retries where servers are set in this daemon's configuration.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Number of repositories whose settings are looked up at a time. `cvmfs_config` is a shell script that takes most of a second.
const AT_A_TIME: usize = 4;
/// Maximum number of outstanding calls to a mount: the reads of all requests ([`READS`](crate::cache::mount_reader::READS)) and one
/// lookup. With ten calls at a time, a CVMFS client makes containers wait.
const MAX_CALLS: usize = READS + 1;
const MIB: u64 = 1 << 20;

/// One repository's.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fully qualified name.
    pub name: String,
    /// Where it is mounted.
    pub mount: Mount,
    /// Where its objects come from. Without servers they are read through the mount.
    pub upstream: Upstream,
    /// Where they go.
    pub choice: Choice,
    /// What could not be learned, for people.
    pub notes: Vec<String>,
}

/// A repository, or a node, that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nothing to do.
    #[error("there is no repository to serve: {0}; add a [[repositories]] with its name")]
    NoRepository(String),
    /// What is written by hand lacks something that cannot be learned either.
    #[error("repository {name}: {why}")]
    Repository {
        /// Its name.
        name: String,
        /// What is missing, and what to write.
        why: String,
    },
}

/// The repositories to serve: those of `config`, or all that the node's client has.
pub fn repositories(config: &Config, client: &ClientConfiguration) -> Result<Vec<RepositoryConfig>, SettingsError> {
    if !config.repositories.is_empty() {
        return Ok(config.repositories.clone());
    }
    let names = client.repositories().map_err(|e| SettingsError::NoRepository(e.to_string()))?;
    let names: Vec<_> = names.into_iter().filter(|name| bundles::cvmfs::is_repository_name(name)).collect();
    match names.is_empty() {
        false => Ok(names.into_iter().map(RepositoryConfig::named).collect()),
        true => {
            let root = client.root().display();
            Err(SettingsError::NoRepository(format!("none is configured, and {root} sets no CVMFS_REPOSITORIES")))
        }
    }
}

/// The node's client as `config` names it.
pub fn client_of(config: &Config) -> ClientConfiguration {
    ClientConfiguration::at(&config.client_config, config.lookup_timeout)
}

impl Settings {
    /// The settings of all repositories. Blocks for as long as `cvmfs_config` and the mounts do, within their timeouts.
    pub fn all(config: &Config) -> Result<Vec<Self>, SettingsError> {
        let client = &client_of(config);
        let mut all = Vec::new();
        for some in repositories(config, client)?.chunks(AT_A_TIME) {
            let found: Vec<Result<Self, SettingsError>> = std::thread::scope(|scope| {
                let start = |one| scope.spawn(move || Self::of(one, config, client));
                let threads: Vec<_> = some.iter().map(start).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
            });
            for settings in found {
                all.push(settings?);
            }
        }
        Ok(all)
    }

    /// Of one repository.
    pub fn of(one: &RepositoryConfig, config: &Config, client: &ClientConfiguration) -> Result<Self, SettingsError> {
        let mut notes = Vec::new();
        let values = match client.of(&one.name) {
            Ok(values) => Some(values),
            // Nothing is missing if all is written by hand.
            Err(ParametersError::Absent(_)) if one.servers.is_some() && one.cache.is_some() => None,
            Err(e) => {
                notes.push(e.to_string());
                None
            }
        };
        let mount = Mount::with_max_calls(one.mount(), MAX_CALLS);
        let source = Source { one, config, client, mount: mount.clone(), values: values.as_ref() };
        let upstream = source.upstream(&mut notes);
        let wrong = |why: String| SettingsError::Repository { name: one.name.clone(), why };
        let choice = source.choice(!upstream.servers.is_empty()).map_err(wrong)?;
        if choice.kind != Kind::Mount && upstream.servers.is_empty() {
            return Err(wrong(format!("no servers are known ({}); write servers = [...]", notes.join("; "))));
        }
        Ok(Self { name: one.name.clone(), mount, upstream, choice, notes })
    }
}

/// All that tells of one repository.
struct Source<'a> {
    one: &'a RepositoryConfig,
    config: &'a Config,
    client: &'a ClientConfiguration,
    mount: Mount,
    values: Option<&'a Values>,
}

impl Source<'_> {
    fn upstream(&self, notes: &mut Vec<String>) -> Upstream {
        let name = &self.one.name;
        let mut live = None;
        let mut ask = || {
            let ask = || LiveClient::query(&self.mount, name, self.client.timeout()).map_err(|e| e.to_string());
            live.get_or_insert_with(ask).clone()
        };
        let servers = self.one.servers.clone().or_else(|| {
            let configured = self.values.map(|values| transfer::client_servers(values, name));
            let configured = noted(configured.transpose(), notes).flatten().filter(|servers| !servers.is_empty());
            configured.or_else(|| noted(ask().and_then(|live| live.servers(name)), notes))
        });
        let mut servers = servers.unwrap_or_default();
        let proxies = self.proxies(&mut ask, !servers.is_empty());
        let proxies = noted(proxies, notes).unwrap_or_else(|| {
            // Whole farms would go past their proxies.
            servers.clear();
            direct()
        });
        let policy = match (&self.one.servers, self.values) {
            (None, Some(values)) => TransferPolicy::from_parameters(values),
            _ => self.configured_policy(),
        };
        Upstream { servers, proxies, policy, certificates: self.certificates() }
    }

    fn certificates(&self) -> Vec<PathBuf> {
        match (&self.one.certificates, self.values) {
            (Some(by_hand), _) => vec![by_hand.clone()],
            (None, Some(values)) => transfer::certificates(values),
            (None, None) => Vec::new(),
        }
    }

    fn configured_policy(&self) -> TransferPolicy {
        let timeout = self.config.timeout;
        TransferPolicy {
            timeout,
            timeout_direct: timeout,
            retries: self.config.retries,
            first_backoff: FIRST_BACKOFF,
            max_backoff: MAX_BACKOFF,
        }
    }

    /// Written by hand; else the client's, as configured or as it uses them now. Servers by hand without proxies are
    /// reached directly.
    fn proxies(
        &self,
        ask: &mut impl FnMut() -> Result<LiveClient, String>,
        has_servers: bool,
    ) -> Result<ProxyGroups, String> {
        if let Some(by_hand) = &self.one.proxy {
            return transfer::proxies(by_hand).map_err(|e| e.to_string());
        }
        if self.one.servers.is_some() || !has_servers {
            return Ok(direct());
        }
        let configured = match self.values {
            Some(values) => transfer::client_proxies(values).map_err(|e| e.to_string()),
            None => Err("the client's proxies are not configured where they can be read".into()),
        };
        let learned = |why: String| {
            let told = ask().and_then(|live| live.proxy_groups());
            told.map_err(|other| format!("{why}, and {other}; write proxy = \"...\""))
        };
        configured.or_else(learned)
    }

    fn choice(&self, has_servers: bool) -> Result<Choice, String> {
        let described = self.values.map(|values| client_cache(values, &self.one.name));
        let by_hand = self.one.cache.as_ref().map(|path| self.directory_by_hand(path.clone(), described.as_ref()));
        let kind = match self.one.destination {
            DestinationChoice::Auto => {
                return Ok(match (by_hand, described) {
                    (Some(directory), _) if has_servers => {
                        let reason = "the cache is written in this daemon's configuration".into();
                        let kind = if directory.alien { Kind::Alien } else { Kind::Managed };
                        Choice { kind, directory: Some(directory), reason }
                    }
                    (Some(directory), _) => choose(&ClientCache::Directory(directory), has_servers, Access::to),
                    (None, Some(described)) => choose(&self.with_overrides(described), has_servers, Access::to),
                    (None, None) => {
                        let reason = "the client's cache is not known".into();
                        Choice { kind: Kind::Mount, directory: None, reason }
                    }
                });
            }
            DestinationChoice::Managed => Kind::Managed,
            DestinationChoice::Alien => Kind::Alien,
            DestinationChoice::Lower => Kind::Lower,
            DestinationChoice::Mount => Kind::Mount,
        };
        let is_described = by_hand.is_none();
        let directory = by_hand.or_else(|| described.and_then(|found| directory_of(&self.with_overrides(found))));
        let directory = directory.map(|found| match kind {
            Kind::Managed => CacheDirectory { alien: false, ..found },
            Kind::Lower if is_described => found,
            Kind::Alien | Kind::Lower => CacheDirectory { alien: true, ..found },
            Kind::Mount => found,
        });
        let reason = "written in this daemon's configuration".to_owned();
        match directory {
            None if kind != Kind::Mount => Err("its cache is not known; write cache = \"...\"".into()),
            directory => Ok(Choice { kind, directory, reason }),
        }
    }

    /// A cache directory by hand. If it is the one that the client describes, its quota and workspace are known, too.
    fn directory_by_hand(&self, path: PathBuf, described: Option<&ClientCache>) -> CacheDirectory {
        let same = described.and_then(directory_of).filter(|found| found.path == path);
        let unknown =
            CacheDirectory { workspace: path.clone(), path, shared: true, alien: false, quota: None, counted: true };
        self.overridden(same.unwrap_or(unknown))
    }

    fn with_overrides(&self, cache: ClientCache) -> ClientCache {
        match cache {
            ClientCache::Directory(found) => ClientCache::Directory(self.overridden(found)),
            ClientCache::LowerTier(found) => ClientCache::LowerTier(self.overridden(found)),
            closed @ ClientCache::Closed(_) => closed,
        }
    }

    fn overridden(&self, mut directory: CacheDirectory) -> CacheDirectory {
        if let Some(workspace) = &self.one.workspace {
            directory.workspace.clone_from(workspace);
        }
        if let Some(quota_mb) = self.one.quota_mb {
            directory.quota = (quota_mb > 0).then(|| quota_mb.saturating_mul(MIB));
            directory.counted = quota_mb > 0;
        }
        directory
    }
}

fn direct() -> ProxyGroups {
    vec![vec![Proxy::Direct]]
}

fn directory_of(cache: &ClientCache) -> Option<CacheDirectory> {
    match cache {
        ClientCache::Directory(found) | ClientCache::LowerTier(found) => Some(found.clone()),
        ClientCache::Closed(_) => None,
    }
}

fn noted<T>(result: Result<T, String>, notes: &mut Vec<String>) -> Option<T> {
    result.inspect_err(|why| notes.push(why.clone())).ok()
}

#[cfg(test)]
mod tests;
