//! The CVMFS part of a node: the client and the prefetch daemon.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use api::client::Client as DaemonClient;

use super::start;
use crate::client::{Client, ClientSpec};
use crate::namespace::SiteDirectory;
use crate::process::Daemon;
use crate::site::{FQRN, Site};

/// Timeout of a call to the daemon.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Parts and configuration of the CVMFS part.
#[derive(Debug, Clone, Default)]
pub struct CvmfsSpec {
    /// Whether the prefetch daemon runs.
    pub daemon: bool,
    /// URL of a forward proxy for client and daemon.
    pub proxy: Option<String>,
    /// The daemon's bundle store; by default a directory of the node.
    pub store: Option<PathBuf>,
    /// Where the daemon looks for the CVMFS client's configuration. By default a directory that does not exist, so that the
    /// daemon neither reads the host's `/etc/cvmfs` nor runs the host's `cvmfs_config`.
    pub client_config: Option<PathBuf>,
    /// Further lines of the daemon's configuration.
    pub daemon_options: String,
}

/// A mounted client with an empty cache, and the daemon that fills it.
#[derive(Debug)]
pub struct Cvmfs {
    // Fields are dropped in this order: the daemon before the mount that it reads.
    /// The prefetch daemon, if it runs.
    pub daemon: Option<Daemon>,
    /// The CVMFS client.
    pub client: Client,
}

impl Cvmfs {
    /// Starts both in `directory`.
    pub fn start(site: &Site, directory: &SiteDirectory, spec: &CvmfsSpec) -> Result<Self> {
        let client = Client::start(&ClientSpec {
            mount_point: mount_of(directory),
            cache: cache_of(directory),
            url: site.client_url(),
            proxy: spec.proxy.clone(),
            public_key: site.repository.public_key().to_owned(),
            run_directory: directory.subdirectory("client")?,
        })?;
        configure_daemon(site, directory, spec)?;
        let daemon = if spec.daemon { Some(start_daemon(directory)?) } else { None };
        Ok(Self { daemon, client })
    }
}

/// Where the client mounts the repository.
pub(super) fn mount_of(directory: &SiteDirectory) -> PathBuf {
    directory.path().join("cvmfs")
}

/// The client's cache.
pub(super) fn cache_of(directory: &SiteDirectory) -> PathBuf {
    directory.path().join("cache")
}

/// The daemon's socket.
pub(super) fn socket_of(directory: &Path) -> PathBuf {
    directory.join("prefetchd.sock")
}

/// A client of the daemon in `directory`.
pub fn daemon_client(directory: &Path) -> DaemonClient {
    DaemonClient::connect_lazy(&socket_of(directory)).with_timeout(TIMEOUT)
}

/// Starts the daemon (again).
pub(super) fn start_daemon(directory: &SiteDirectory) -> Result<Daemon> {
    start(directory, "cvmfs-prefetchd", "prefetchd")
}

fn configure_daemon(site: &Site, directory: &SiteDirectory, spec: &CvmfsSpec) -> Result<()> {
    let client_config = spec.client_config.clone().unwrap_or_else(|| directory.path().join("cvmfs-client"));
    let store = spec.store.clone().unwrap_or_else(|| directory.path().join("store"));
    // The daemon has its own link, except behind a proxy: two URLs would make the proxy cache everything twice.
    let url = if spec.proxy.is_some() { site.client_url() } else { site.daemon_url() };
    let mut configuration = format!(
        "socket = {:?}\nstore = {store:?}\nclient_config = {client_config:?}\nabsent_ttl = \"0s\"\ndisk_reserve = 0.0\n{}\n[[repositories]]\nname = {FQRN:?}\nmount = {:?}\nservers = [{:?}]\ncache = {:?}\n",
        socket_of(directory.path()),
        spec.daemon_options,
        mount_of(directory),
        url,
        cache_of(directory),
    );
    if let Some(proxy) = &spec.proxy {
        writeln!(configuration, "proxy = {proxy:?}")?;
    }
    Ok(std::fs::write(directory.path().join("prefetchd.toml"), configuration)?)
}
