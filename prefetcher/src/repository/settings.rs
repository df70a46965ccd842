//! How each repository is served: this daemon's configuration first, then that of the node's CVMFS client, then the attributes of
//! its mount.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use node::cvmfs_client::cache::{CacheDirectory, ClientCache, client_cache, pause_marker};
use node::cvmfs_client::mounted::{LiveClient, LiveClientError};
use node::cvmfs_client::parameters::{ClientConfiguration, ParametersError};
use node::cvmfs_client::proxy::Proxy;
use node::cvmfs_client::shell::Values;
use node::cvmfs_client::transfer::{self, ProxyError, ProxyGroups, TransferPolicy};
use node::mount::Mount;
use parking_lot::Mutex;

use super::cache_choice::{Access, Choice, Kind, choose};
use crate::cache::mount_reader::READS;
use crate::config::{Config, DestinationChoice, RepositoryConfig};
use crate::fetch::failover::Upstream;

/// Pauses between retries where servers are set in this daemon's configuration.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Number of repositories whose settings are looked up at a time. `cvmfs_config` is a shell script that takes most of a second.
const AT_A_TIME: usize = 4;
/// How long the programs and mounts of the client may take together, before each has only its own timeout. Requests wait meanwhile;
/// without the settings they could only be slow.
const EXTENDED: Duration = Duration::from_secs(60);
/// Maximum number of outstanding calls to a mount: the reads of all requests ([`READS`](crate::cache::mount_reader::READS)) and one
/// lookup. With ten calls at a time, a CVMFS client makes containers wait.
const MAX_CALLS: usize = READS + 1;
const MIB: u64 = 1 << 20;

/// Settings of one repository.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fully qualified name.
    pub name: String,
    /// Its mount.
    pub mount: Mount,
    /// Servers and proxies of its objects. Without servers, objects are read through the mount.
    pub upstream: Upstream,
    /// Destination of its objects.
    pub choice: Choice,
    /// Whether the kind of the destination is set in the daemon's configuration.
    pub is_chosen: bool,
    /// Settings of the client that could not be read, and why.
    pub notes: Vec<String>,
}

/// What was found out about the repositories.
#[derive(Debug, Default)]
pub struct AllSettings {
    /// Repositories that can be served.
    pub settings: Vec<Settings>,
    /// Why others cannot.
    pub errors: Vec<SettingsError>,
}

/// Why a repository, or the whole node, cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No repository is configured here or in the CVMFS client.
    #[error("there is no repository to serve: {0}; add a [[repositories]] table with its name")]
    NoRepository(String),
    /// The client's configuration does not say which repositories there are.
    #[error("the repositories to serve are unknown: {0}; add a [[repositories]] table for each")]
    Unknown(ParametersError),
    /// The configuration lacks something that the CVMFS client does not define either.
    #[error("repository {name}: {missing}")]
    Repository {
        /// Fully qualified name.
        name: String,
        /// What the configuration lacks.
        missing: Missing,
    },
}

/// What must be set in this daemon's configuration, because the CVMFS client does not define it.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The servers; with the reasons why the client's are unknown.
    #[error("its servers are unknown ({0}); set servers = [...]")]
    Servers(String),
    /// The cache.
    #[error("its cache is unknown; set cache = \"...\"")]
    Cache,
}

/// Why the proxies of a repository are unknown.
#[derive(Debug, thiserror::Error)]
enum UnknownProxies {
    /// The configured ones cannot be used.
    #[error(transparent)]
    Configured(#[from] ProxyError),
    /// The client's configuration cannot be read.
    #[error("the configuration of the client's proxies cannot be read")]
    Unreadable,
    /// The running client did not help either.
    #[error("{configured}, and {running}; set proxy = \"...\"")]
    Client {
        configured: Box<UnknownProxies>,
        /// Why the running client's proxies are unknown.
        running: String,
    },
}

/// The repositories to serve: those of `config`, or all that the node's client is configured for.
pub fn repositories(config: &Config, client: &ClientConfiguration) -> Result<Vec<RepositoryConfig>, SettingsError> {
    if !config.repositories.is_empty() {
        return Ok(config.repositories.clone());
    }
    let names = client.repositories().map_err(|error| match error {
        ParametersError::Absent(_) => SettingsError::NoRepository(error.to_string()),
        error => SettingsError::Unknown(error),
    })?;
    let names: Vec<_> = names.into_iter().filter(|name| bundles::layout::is_repository_name(name)).collect();
    if names.is_empty() {
        let root = client.root().display();
        let reason = format!("none is configured, and {root} does not set CVMFS_REPOSITORIES");
        return Err(SettingsError::NoRepository(reason));
    }
    Ok(names.into_iter().map(RepositoryConfig::named).collect())
}

/// The configuration of the node's client, to be read now.
pub fn client_of(config: &Config) -> ClientConfiguration {
    ClientConfiguration::at(&config.client_config, config.lookup_timeout).extended(EXTENDED)
}

impl Settings {
    /// The settings of all repositories, as `client` is configured now. Fails if there is certainly no repository to serve. Blocks
    /// for as long as `cvmfs_config` and the mounts do, within their timeouts.
    pub fn all(config: &Config, client: &ClientConfiguration) -> Result<AllSettings, SettingsError> {
        let repositories = match repositories(config, client) {
            Ok(repositories) => repositories,
            Err(error @ SettingsError::Unknown(_)) => {
                return Ok(AllSettings { errors: vec![error], ..AllSettings::default() });
            }
            Err(error) => return Err(error),
        };
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(repository) = repositories.get(next.fetch_add(1, Ordering::Relaxed)) {
                let settings = Self::for_repository(repository, config, client);
                found.lock().push(settings);
            }
        };
        std::thread::scope(|scope| (0..repositories.len().min(AT_A_TIME)).for_each(|_| _ = scope.spawn(work)));
        let mut all = AllSettings::default();
        for settings in found.into_inner() {
            match settings {
                Ok(settings) => all.settings.push(settings),
                Err(error) => all.errors.push(error),
            }
        }
        // Of repositories with one cache, the first decides.
        let position = |settings: &Self| repositories.iter().position(|repository| repository.name == settings.name);
        all.settings.sort_by_key(position);
        Ok(all)
    }

    /// Whether a repository with these settings is served as one with `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |settings: &Self| (settings.name.clone(), settings.mount.path().to_owned());
        key(self) == key(other) && self.upstream == other.upstream && self.choice == other.choice
    }

    /// Whether the settings may be better when they are read again: something could not be read, or the cache cannot be written to.
    pub fn are_provisional(&self) -> bool {
        let directory = self.choice.directory.as_ref();
        let is_refused = directory.is_some_and(|found| self.choice.kind == Kind::Mount && !found.has_inner_quota());
        !self.notes.is_empty() || (is_refused && !self.upstream.servers.is_empty() && !self.is_chosen)
    }

    /// The settings of a configured repository.
    pub fn for_repository(
        repository: &RepositoryConfig,
        config: &Config,
        client: &ClientConfiguration,
    ) -> Result<Self, SettingsError> {
        let mut notes = Vec::new();
        let values = match client.parameters(&repository.name) {
            Ok(values) => Some(values),
            // Nothing is missing if everything is configured here.
            Err(ParametersError::Absent(_)) if repository.servers.is_some() && repository.cache.is_some() => None,
            Err(e) => {
                notes.push(e.to_string());
                None
            }
        };
        let mount = Mount::with_max_calls(repository.mount(), MAX_CALLS);
        let source = Source { repository, config, client, mount: mount.clone(), values: values.as_ref() };
        let upstream = source.upstream(&mut notes);
        let missing = |missing| SettingsError::Repository { name: repository.name.clone(), missing };
        let choice = source.choice(!upstream.servers.is_empty()).map_err(missing)?;
        if choice.kind != Kind::Mount && upstream.servers.is_empty() {
            return Err(missing(Missing::Servers(notes.join("; "))));
        }
        let is_chosen = repository.destination != DestinationChoice::Auto;
        Ok(Self { name: repository.name.clone(), mount, upstream, choice, is_chosen, notes })
    }
}

/// Everything from which the settings of a repository are derived.
struct Source<'a> {
    repository: &'a RepositoryConfig,
    config: &'a Config,
    client: &'a ClientConfiguration,
    mount: Mount,
    values: Option<&'a Values>,
}

impl Source<'_> {
    fn upstream(&self, notes: &mut Vec<String>) -> Upstream {
        let name = &self.repository.name;
        let running = RunningClient::new(self);
        let servers = self.repository.servers.clone().or_else(|| {
            let configured = self.values.map(|values| transfer::client_servers(values, name));
            let configured = noted(configured.transpose(), notes).flatten().filter(|servers| !servers.is_empty());
            configured.or_else(|| noted(noted(running.get(), notes)?.servers(name), notes))
        });
        let mut servers = servers.unwrap_or_default();
        let proxies = self.proxies(&running, !servers.is_empty());
        let proxies = noted(proxies, notes).unwrap_or_else(|| {
            // Otherwise all nodes of a site would bypass its proxies.
            servers.clear();
            direct()
        });
        let policy = match (&self.repository.servers, self.values) {
            (None, Some(values)) => TransferPolicy::from_parameters(values),
            _ => self.configured_policy(),
        };
        Upstream { servers, proxies, policy, certificates: self.certificates() }
    }

    fn certificates(&self) -> Vec<PathBuf> {
        match (&self.repository.certificates, self.values) {
            (Some(configured), _) => vec![configured.clone()],
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

    /// The configured proxies; otherwise the client's, as configured or as it uses them now. Servers that are configured without
    /// proxies are reached directly.
    fn proxies(&self, running: &RunningClient<'_>, has_servers: bool) -> Result<ProxyGroups, UnknownProxies> {
        if let Some(proxy) = &self.repository.proxy {
            return Ok(transfer::proxies(proxy)?);
        }
        if self.repository.servers.is_some() || !has_servers {
            return Ok(direct());
        }
        let configured = match self.values {
            Some(values) => transfer::client_proxies(values).map_err(UnknownProxies::from),
            None => Err(UnknownProxies::Unreadable),
        };
        configured.or_else(|configured| {
            let unknown = |running| UnknownProxies::Client { configured: Box::new(configured), running };
            let groups = running.get().map_err(ToString::to_string);
            groups.and_then(|client| client.proxy_groups().map_err(|e| e.to_string())).map_err(unknown)
        })
    }

    fn choice(&self, has_servers: bool) -> Result<Choice, Missing> {
        let described = self.values.map(|values| client_cache(values, &self.repository.name));
        let configured =
            self.repository.cache.as_ref().map(|path| self.configured_directory(path.clone(), described.as_ref()));
        let kind = match self.repository.destination {
            DestinationChoice::Auto => {
                return Ok(match (configured, described) {
                    (Some(directory), _) if has_servers => {
                        let reason = "the cache is set in this daemon's configuration".into();
                        let kind = if directory.alien { Kind::Alien } else { Kind::Managed };
                        Choice { kind, directory: Some(directory), reason }
                    }
                    (Some(directory), _) => choose(&ClientCache::Directory(directory), has_servers, Access::to),
                    (None, Some(described)) => choose(&self.with_overrides(described), has_servers, Access::to),
                    (None, None) => {
                        let reason = "the client's cache is unknown".into();
                        Choice { kind: Kind::Mount, directory: None, reason }
                    }
                });
            }
            DestinationChoice::Managed => Kind::Managed,
            DestinationChoice::Alien => Kind::Alien,
            DestinationChoice::Lower => Kind::Lower,
            DestinationChoice::Mount => Kind::Mount,
        };
        let is_described = configured.is_none();
        let directory = configured.or_else(|| described.and_then(|found| directory_of(&self.with_overrides(found))));
        let directory = directory.map(|found| match kind {
            Kind::Managed => CacheDirectory { alien: false, ..found },
            Kind::Lower if is_described => found,
            Kind::Alien | Kind::Lower => CacheDirectory { alien: true, ..found },
            Kind::Mount => found,
        });
        let reason = "set in this daemon's configuration".to_owned();
        match directory {
            None if kind != Kind::Mount => Err(Missing::Cache),
            directory => Ok(Choice { kind, directory, reason }),
        }
    }

    /// A configured cache directory. If it is the client's, quota and workspace are those of the client.
    fn configured_directory(&self, path: PathBuf, described: Option<&ClientCache>) -> CacheDirectory {
        let same = described.and_then(directory_of).filter(|found| found.path == path);
        let unknown = CacheDirectory {
            workspace: path.clone(),
            path,
            shared: true,
            alien: false,
            quota: None,
            counted: true,
            pause: pause_marker(self.values),
        };
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
        if let Some(workspace) = &self.repository.workspace {
            directory.workspace.clone_from(workspace);
        }
        if let Some(quota_mb) = self.repository.quota_mb {
            directory.quota = (quota_mb > 0).then(|| quota_mb.saturating_mul(MIB));
            directory.counted = quota_mb > 0;
        }
        directory
    }
}

/// What the running client says about itself, queried when it is first needed.
struct RunningClient<'a> {
    source: &'a Source<'a>,
    found: OnceCell<Result<LiveClient, LiveClientError>>,
}

impl<'a> RunningClient<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        Self { source, found: OnceCell::new() }
    }

    fn get(&self) -> Result<&LiveClient, &LiveClientError> {
        let Source { mount, repository, client, .. } = self.source;
        self.found.get_or_init(|| LiveClient::query(mount, &repository.name, client.timeout())).as_ref()
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

/// Adds the error of `result` to `notes`.
fn noted<T>(result: Result<T, impl std::fmt::Display>, notes: &mut Vec<String>) -> Option<T> {
    result.inspect_err(|error| notes.push(error.to_string())).ok()
}

#[cfg(test)]
pub(super) mod tests;
