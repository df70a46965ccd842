//! The daemon's configuration file. `deploy/config/prefetchd.toml` documents every key.
//!
//! [`Config::parse`] is strict: unknown keys and values that cannot work are refused with a message that names the key
//! and says what to write. It looks at nothing but the text.

mod check;
mod defaults;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::config::ConfigError;
use node::logging::LogFormat;
use serde::Deserialize;

/// The configuration, with defaults filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Unix socket of the API.
    #[serde(default = "defaults::socket")]
    pub socket: PathBuf,
    /// Permissions of the socket.
    #[serde(default = "defaults::socket_mode")]
    pub socket_mode: u32,
    /// User that owns the socket, by name or number.
    #[serde(default)]
    pub socket_owner: Option<String>,
    /// Group of the socket, by name or number.
    #[serde(default)]
    pub socket_group: Option<String>,
    /// Address on which metrics are served over HTTP. `None`: not served.
    #[serde(default)]
    pub metrics_address: Option<SocketAddr>,
    /// Format of the log.
    #[serde(default)]
    pub log_format: LogFormat,
    /// The API over TCP. `None`: not served.
    #[serde(default)]
    pub tcp: Option<TcpConfig>,
    /// Directory of the bundle store.
    #[serde(default = "defaults::store")]
    pub store: PathBuf,
    /// Maximum number of bytes of bundles in the store.
    #[serde(default = "defaults::store_max_bytes")]
    pub store_max_bytes: u64,
    /// Maximum number of connections to each proxy or server.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: usize,
    /// Maximum rate in bytes per second over all servers. `None`: no limit.
    #[serde(default)]
    pub max_bytes_per_second: Option<u64>,
    /// Maximum rate in requests per second to each proxy, and to all direct servers together.
    #[serde(default = "defaults::max_requests_per_second")]
    pub max_requests_per_second: u64,
    /// Number of threads that read fetched files through their mount, so that the kernel caches them. 0: none. At most 8.
    #[serde(default = "defaults::page_cache_threads")]
    pub page_cache_threads: usize,
    /// Directory of the CVMFS client's configuration. Only for `/etc/cvmfs` the program `cvmfs_config` is run; elsewhere, the
    /// files are read.
    #[serde(default = "defaults::client_config")]
    pub client_config: PathBuf,
    /// Share of a cache's quota, or of the free space without a quota, that running prefetches may write.
    #[serde(default = "defaults::cache_share")]
    pub cache_share: f64,
    /// Share of the same that all requests of an hour may write.
    #[serde(default = "defaults::cache_share_per_hour")]
    pub cache_share_per_hour: f64,
    /// Share of a cache's file system that stays free. Default: [`default_reserve`](crate::cache::file_system::default_reserve).
    pub disk_reserve: Option<f64>,
    /// Without a byte for this long, an attempt to fetch from configured servers fails.
    #[serde(default = "defaults::timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// Further rounds over configured servers after a failed one.
    #[serde(default = "defaults::retries")]
    pub retries: u32,
    /// Nice value of the daemon, from 0 to 19.
    #[serde(default = "defaults::nice")]
    pub nice: u8,
    /// Registries in which bundles are looked up: hosts, with `http://` before those without TLS.
    #[serde(default)]
    pub registries: Vec<String>,
    /// Interval at which repositories are checked for a new revision, and with it new bundles. Zero: never.
    #[serde(default = "defaults::revision_check_interval", with = "humantime_serde")]
    pub revision_check_interval: Duration,
    /// Interval at which the CVMFS client's configuration is checked for changes, and read again if a part of it could not be
    /// read. Zero: never.
    #[serde(default = "defaults::settings_check_interval", with = "humantime_serde")]
    pub settings_check_interval: Duration,
    /// How long it is remembered that an image has no bundle. That a repository has no bundles at all is remembered for 720 times
    /// as long.
    #[serde(default = "defaults::absent_ttl", with = "humantime_serde")]
    pub absent_ttl: Duration,
    /// Timeout of a lookup in the store or a mount. When the settings are read, `cvmfs_config` and mounts have at least a minute
    /// together.
    #[serde(default = "defaults::lookup_timeout", with = "humantime_serde")]
    pub lookup_timeout: Duration,
    /// The repositories to serve. Empty: those of the client's `CVMFS_REPOSITORIES`.
    #[serde(default)]
    pub repositories: Vec<RepositoryConfig>,
}

/// `[tcp]`: the API for clients on other machines. TCP requires certificates on both sides, so no key is optional.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpConfig {
    /// Address to listen on.
    pub address: SocketAddr,
    /// The daemon's certificate chain (PEM).
    pub certificate: PathBuf,
    /// The daemon's private key (PEM).
    pub key: PathBuf,
    /// Authorities whose client certificates are accepted (PEM).
    pub client_ca: PathBuf,
    /// Whether these clients may also cancel requests, change priorities and remove bundles.
    #[serde(default)]
    pub control: bool,
}

/// A table of `[[repositories]]`. Values that are not set are taken from the CVMFS client, see
/// [`settings`](crate::repository::settings).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Fully qualified name.
    pub name: String,
    /// Mount point. `/cvmfs/<name>` if not set: see [`RepositoryConfig::mount`].
    #[serde(default)]
    mount: Option<PathBuf>,
    /// URLs of the repository, the preferred one first. [`Config::parse`] replaces `@fqrn@` and `@org@`.
    #[serde(default)]
    pub servers: Option<Vec<String>>,
    /// HTTP proxies, in the syntax of `CVMFS_HTTP_PROXY`.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Certificate authorities for `https`, in addition to the system's: a PEM file, or a directory of such.
    #[serde(default)]
    pub certificates: Option<PathBuf>,
    /// Where objects go.
    #[serde(default)]
    pub destination: DestinationChoice,
    /// Cache directory of the CVMFS client.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// Directory of the cache manager's FIFO.
    #[serde(default)]
    pub workspace: Option<PathBuf>,
    /// Quota of the cache in MB; 0: no quota.
    #[serde(default)]
    pub quota_mb: Option<u64>,
}

/// Value of `destination`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationChoice {
    /// Follows from the client's configuration.
    #[default]
    Auto,
    /// The client's own cache.
    Managed,
    /// An alien cache.
    Alien,
    /// The lower tier of a tiered cache.
    Lower,
    /// The client itself, by reading through the mount.
    Mount,
}

impl RepositoryConfig {
    /// A repository with nothing configured but its name.
    pub fn named(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// The mount point.
    pub fn mount(&self) -> PathBuf {
        self.mount.clone().unwrap_or_else(|| Path::new("/cvmfs").join(&self.name))
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&node::config::read(path)?, path)
    }

    /// Checks the text of a file; `path` is used for errors only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        node::config::parse(text, path, Self::check)
    }
}
