//! The daemon's configuration file. `prefetchd.toml` beside this crate's `Cargo.toml` documents every key.
//!
//! [`Config::parse`] is strict: unknown keys and values that cannot work are refused with a message that names the key
//! and says what to write. It looks at nothing but the text.

mod check;
mod defaults;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use node::config::ConfigError;
use node::logging::LogFormat;
use serde::Deserialize;

/// What the file says, defaults filled in.
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
    /// Where metrics are served over HTTP; nowhere if not given.
    #[serde(default)]
    pub metrics_address: Option<SocketAddr>,
    /// How the log is written.
    #[serde(default)]
    pub log_format: LogFormat,
    /// The API over TCP; not served if not given.
    #[serde(default)]
    pub tcp: Option<TcpConfig>,
    /// Directory of the bundle store.
    #[serde(default = "defaults::store")]
    pub store: PathBuf,
    /// Most bytes of bundles in it.
    #[serde(default = "defaults::store_bytes")]
    pub store_bytes: u64,
    /// Most connections at a time to each proxy or server.
    #[serde(default = "defaults::connections")]
    pub connections: usize,
    /// Most bytes a second from all servers together. None: no limit.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// Most requests a second to each proxy, and to all servers that are reached without one together. None: no limit.
    #[serde(default)]
    pub requests_per_second: Option<u64>,
    /// How many threads read fetched files through their mount, for the kernel to have them. 0: none. At most 8.
    #[serde(default = "defaults::mount_readers")]
    pub mount_readers: usize,
    /// Directory of the CVMFS client's own configuration.
    #[serde(default = "defaults::client_config")]
    pub client_config: PathBuf,
    /// How much of a cache's quota, or of free space without one, running prefetches may write.
    #[serde(default = "defaults::cache_share")]
    pub cache_share: f64,
    /// Seconds without a byte after which an attempt to fetch from servers that are written here fails.
    #[serde(default = "defaults::timeout_s")]
    pub timeout_s: u64,
    /// Further rounds over such servers after a failed one.
    #[serde(default = "defaults::retries")]
    pub retries: u32,
    /// How much the daemon gives way to others on the node's cores, from 0 (not at all) to 19, as of `nice`.
    #[serde(default = "defaults::nice")]
    pub nice: u8,
    /// Registries that are asked for bundles beside their images: hosts, with `http://` before those without TLS.
    #[serde(default)]
    pub registries: Vec<String>,
    /// Seconds between looks whether a repository has a new revision, and with it new bundles. 0: never.
    #[serde(default = "defaults::revision_check_s")]
    pub revision_check_s: u64,
    /// Seconds for which the absence of a bundle is believed.
    #[serde(default = "defaults::remember_absent_s")]
    pub remember_absent_s: u64,
    /// Seconds after which a store or mount that does not answer is given up.
    #[serde(default = "defaults::lookup_timeout_s")]
    pub lookup_timeout_s: u64,
    /// The repositories to serve. None: those of the client's `CVMFS_REPOSITORIES`.
    #[serde(rename = "repository", default)]
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
}

/// One `[[repository]]`. What is not given is learned from the CVMFS client, see [`settings`](crate::repository::settings).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Fully qualified name.
    pub name: String,
    /// Where it is mounted. `/cvmfs/<name>` if not given: see [`RepositoryConfig::mount`].
    #[serde(default)]
    mount: Option<PathBuf>,
    /// URLs of the repository, the preferred one first. Names were put in by [`Config::parse`].
    #[serde(default)]
    pub servers: Option<Vec<String>>,
    /// HTTP proxies, as `CVMFS_HTTP_PROXY` has them.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Certificates of authorities for `https`, beside the system's: a file in PEM form, or a directory of such.
    #[serde(default)]
    pub certificates: Option<PathBuf>,
    /// Where objects go.
    #[serde(default)]
    pub sink: SinkKind,
    /// Cache directory of the CVMFS client.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// Where the quota manager's FIFO is.
    #[serde(default)]
    pub workspace: Option<PathBuf>,
    /// The limit of the cache's quota, in MB; 0: nobody keeps one.
    #[serde(default)]
    pub quota_mb: Option<u64>,
}

/// How a repository's sink is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// From the client's configuration.
    #[default]
    Auto,
    /// The client's own cache.
    Managed,
    /// An alien cache.
    Alien,
    /// The lower tier of a tiered cache.
    Lower,
    /// Reading through the mount.
    Mount,
}

impl RepositoryConfig {
    /// One of which nothing but its name is given.
    pub fn named(name: String) -> Self {
        let (mount, servers, proxy, certificates) = (None, None, None, None);
        let (sink, cache, workspace, quota_mb) = (SinkKind::Auto, None, None, None);
        Self { name, mount, servers, proxy, certificates, sink, cache, workspace, quota_mb }
    }

    /// Where the repository is mounted.
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
