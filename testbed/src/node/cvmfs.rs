//! What of a node has to do with CVMFS: the client and, beside it, the prefetch daemon.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use prefetcher::client::Client as DaemonClient;

use super::start;
use crate::client::{Client, ClientSpec};
use crate::namespace::SiteDirectory;
use crate::process::Daemon;
use crate::site::{FQRN, Site};

/// How long a call of the daemon may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is there, and how.
#[derive(Debug, Clone, Default)]
pub struct CvmfsSpec {
    /// The prefetch daemon runs.
    pub daemon: bool,
    /// The forward proxy's URL for both.
    pub proxy: Option<String>,
    /// The daemon's bundle store; one of the node's own if not given.
    pub store: Option<PathBuf>,
    /// Further lines of the daemon's configuration.
    pub daemon_options: String,
}

/// A mounted client with an empty cache, and a daemon that fills it.
#[derive(Debug)]
pub struct Cvmfs {
    // In the order in which they stop: the daemon before the mount that it reads.
    /// The prefetch daemon, if it runs.
    pub daemon: Option<Daemon>,
    /// The client.
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
    DaemonClient::connect_lazy(&socket_of(directory)).with_deadline(DEADLINE)
}

/// Starts the daemon (again).
pub(super) fn start_daemon(directory: &SiteDirectory) -> Result<Daemon> {
    start(directory, "cvmfs-prefetchd", "prefetchd")
}

fn configure_daemon(site: &Site, directory: &SiteDirectory, spec: &CvmfsSpec) -> Result<()> {
    let store = spec.store.clone().unwrap_or_else(|| directory.path().join("store"));
    // A line of its own, unless that would have a proxy keep everything twice.
    let url = if spec.proxy.is_some() { site.client_url() } else { site.daemon_url() };
    let mut configuration = format!(
        "socket = {:?}\nstore = {store:?}\nremember_absent_s = 0\n{}\n[[repository]]\nname = {FQRN:?}\nmount = {:?}\nservers = [{:?}]\ncache = {:?}\n",
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
