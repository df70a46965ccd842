//! What the daemon would do, and why: `cvmfs-prefetchd check`. Writes nothing, apart from asking the cache manager.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::cvmfs_client::mounted::LiveClient;
use node::cvmfs_client::parameters::ClientConfiguration;
use node::cvmfs_client::proxy::Proxy;
use node::mount::Mount;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::cache::cache_manager::{CacheManager, PROTOCOL};
use crate::cache::capacity::FreeSpace;
use crate::cache::file_system::{FileSystemSize, INODE_RESERVE};
use crate::config::{Config, RepositoryConfig};
use crate::repository::cache_choice::{Access, Kind};
use crate::repository::settings::{self, Settings, SettingsError};
use crate::repository::{destination as repository_destination, reserve};

/// One repository's.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Fully qualified name.
    pub repository: String,
    /// Why it cannot be served at all.
    pub problem: Option<String>,
    /// What could not be learned.
    pub notes: Vec<String>,
    /// Where its objects come from.
    pub upstream: Option<UpstreamReport>,
    /// Where they go.
    pub destination: Option<DestinationReport>,
    /// Its mount.
    pub mount: MountReport,
}

/// Where objects come from.
#[derive(Debug, Serialize)]
pub struct UpstreamReport {
    /// The preferred one first.
    pub servers: Vec<String>,
    /// Groups in the order of fail-over.
    pub proxies: Vec<Vec<String>>,
    /// Seconds without a byte through a proxy.
    pub timeout_s: u64,
    /// The same without one.
    pub timeout_direct_s: u64,
    /// Further attempts.
    pub retries: u32,
    /// Where certificates of authorities are, beside the system's, for `https`.
    pub certificates: Vec<PathBuf>,
}

/// Where objects go.
#[derive(Debug, Serialize)]
pub struct DestinationReport {
    /// Its kind.
    pub kind: Kind,
    /// Why this one.
    pub reason: String,
    /// The cache directory, if it is known.
    pub directory: Option<PathBuf>,
    /// The user that this daemon runs as.
    pub user: u32,
    /// The user that the cache belongs to.
    pub expected_user: Option<u32>,
    /// Whether this user may write there.
    pub writable: Option<bool>,
    /// Where the cache manager's FIFO is looked for.
    pub workspace: Option<PathBuf>,
    /// The revision that the cache manager speaks, if objects can be registered with it.
    pub manager_protocol: Option<u32>,
    /// Why objects cannot be registered.
    pub manager_error: Option<String>,
    /// What may be written now.
    pub free_space: Option<FreeSpace>,
    /// The file system of a cache that is written to.
    pub disk: Option<DiskReport>,
}

/// The file system of a cache, and what prefetches leave free of it.
#[derive(Debug, Serialize)]
pub struct DiskReport {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes of the whole file system.
    pub total: u64,
    /// Share of the bytes that stays free.
    pub reserve: f64,
    /// Inodes that may still be made.
    pub free_inodes: u64,
    /// All inodes; 0 if the file system makes them as they are needed.
    pub inodes: u64,
    /// Share of the inodes that stays free.
    pub inode_reserve: f64,
}

/// The mount.
#[derive(Debug, Serialize)]
pub struct MountReport {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it answers within the deadline.
    pub answers: bool,
    /// What its client tells.
    pub client: Option<LiveClient>,
    /// Why it does not.
    pub why: Option<String>,
}

/// Looks at every repository. Blocks for as long as programs and mounts do, within their deadlines.
pub fn check(config: &Config) -> Result<Vec<Report>, SettingsError> {
    let client = settings::client_of(config);
    Ok(settings::repositories(config, &client)?.iter().map(|repository| report(repository, config, &client)).collect())
}

fn report(repository: &RepositoryConfig, config: &Config, client: &ClientConfiguration) -> Report {
    let mount = mount(repository, config);
    match Settings::for_repository(repository, config, client) {
        Ok(settings) => {
            let destination = destination(&settings, config);
            let problem = problem(&destination, &mount);
            Report {
                repository: repository.name.clone(),
                problem,
                upstream: Some(upstream(&settings)),
                notes: settings.notes,
                destination: Some(destination),
                mount,
            }
        }
        Err(e) => Report {
            repository: repository.name.clone(),
            problem: Some(e.to_string()),
            notes: Vec::new(),
            upstream: None,
            destination: None,
            mount,
        },
    }
}

fn upstream(settings: &Settings) -> UpstreamReport {
    let name = |proxy: &Proxy| match proxy {
        Proxy::Direct => "DIRECT".to_owned(),
        Proxy::Via(url) => url.clone(),
    };
    let found = &settings.upstream;
    UpstreamReport {
        servers: found.servers.clone(),
        proxies: found.proxies.iter().map(|group| group.iter().map(name).collect()).collect(),
        timeout_s: found.policy.timeout.as_secs(),
        timeout_direct_s: found.policy.timeout_direct.as_secs(),
        retries: found.policy.retries,
        certificates: found.certificates.clone(),
    }
}

fn destination(settings: &Settings, config: &Config) -> DestinationReport {
    let choice = &settings.choice;
    let directory = choice.directory.as_ref();
    let access = directory.map(|found| Access::to(&found.path));
    let written = directory.filter(|_| choice.kind != Kind::Mount);
    let workspace = written.filter(|found| found.has_cache_manager()).map(|found| &found.workspace);
    let manager = workspace.map(|workspace| CacheManager::in_workspace(workspace).reachable());
    let destination = repository_destination(settings, config, &Arc::new(Semaphore::new(1)), None);
    DestinationReport {
        kind: choice.kind,
        reason: choice.reason.clone(),
        directory: directory.map(|found| found.path.clone()),
        user: nix::unistd::geteuid().as_raw(),
        expected_user: access.and_then(|access| access.owner),
        writable: access.map(|access| access.writable),
        workspace: workspace.cloned(),
        manager_protocol: manager.as_ref().and_then(|manager| manager.is_ok().then_some(PROTOCOL)),
        manager_error: manager.and_then(Result::err).map(|why| why.to_string()),
        free_space: destination.free_space().ok(),
        disk: written.and_then(|found| disk(&found.path, config)),
    }
}

fn disk(path: &Path, config: &Config) -> Option<DiskReport> {
    let FileSystemSize { free, total, free_inodes, inodes } = FileSystemSize::query(path).ok()?;
    let (reserve, inode_reserve) = (reserve(config, Some(path)), INODE_RESERVE);
    Some(DiskReport { free, total, reserve, free_inodes, inodes, inode_reserve })
}

fn mount(repository: &RepositoryConfig, config: &Config) -> MountReport {
    let (mount, timeout) = (Mount::new(repository.mount()), config.lookup_timeout);
    let path = mount.path().to_owned();
    match mount.run_blocking(timeout, |call| std::fs::read_dir(call.root()).map(drop)) {
        // A mount that hangs is not queried again.
        Err(error) => MountReport { path, answers: false, client: None, why: Some(error.to_string()) },
        Ok(()) => {
            let live = LiveClient::query(&mount, &repository.name, timeout);
            MountReport { path, answers: true, why: live.as_ref().err().map(ToString::to_string), client: live.ok() }
        }
    }
}

/// Why nothing would come of a request.
fn problem(destination: &DestinationReport, mount: &MountReport) -> Option<String> {
    let directory = destination.directory.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match (destination.kind, destination.expected_user, destination.writable) {
        (Kind::Mount, ..) if !mount.answers => mount.why.clone(),
        (Kind::Mount, ..) => None,
        (_, None, _) => Some(format!("the cache directory {directory} is not there")),
        (_, _, Some(false)) => Some(format!("user {} must not write to the cache {directory}", destination.user)),
        (Kind::Managed, Some(owner), _) if destination.user != 0 && destination.user != owner => {
            Some(format!("the cache {directory} belongs to user {owner}, run the daemon as that one"))
        }
        _ => None,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.repository)?;
        if let Some(upstream) = &self.upstream {
            writeln!(f, "  servers    {}", or_none(&upstream.servers.join(", ")))?;
            let groups: Vec<_> = upstream.proxies.iter().map(|group| group.join(" | ")).collect();
            writeln!(f, "  proxies    {}", groups.join(", then "))?;
            let UpstreamReport { timeout_s, timeout_direct_s, retries, .. } = upstream;
            writeln!(f, "  timeouts   {timeout_s} s through a proxy, {timeout_direct_s} s direct, {retries} retries")?;
            if !upstream.certificates.is_empty() {
                let places: Vec<_> = upstream.certificates.iter().map(|path| path.display().to_string()).collect();
                writeln!(f, "  https      the system's authorities, and those in {}", places.join(", "))?;
            }
        }
        if let Some(destination) = &self.destination {
            write!(f, "{destination}")?;
        }
        let state = if self.mount.answers { "answers" } else { "does not answer" };
        write!(f, "  mount      {} {state}", self.mount.path.display())?;
        match (&self.mount.client, &self.mount.why) {
            (Some(LiveClient { version: Some(version), .. }), _) => writeln!(f, " (client {version})")?,
            (_, Some(why)) => writeln!(f, ": {why}")?,
            _ => writeln!(f)?,
        }
        for note in &self.notes {
            writeln!(f, "  note       {note}")?;
        }
        match &self.problem {
            Some(problem) => writeln!(f, "  PROBLEM    {problem}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DestinationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  objects to {}: {}", self.kind, self.reason)?;
        if let Some(directory) = &self.directory {
            let owner = self.expected_user.map_or("nobody, it is not there".into(), |user| format!("user {user}"));
            let writable = if self.writable == Some(true) { "may" } else { "must not" };
            let user = self.user;
            writeln!(f, "  directory  {} of {owner}; user {user} {writable} write", directory.display())?;
        }
        match (&self.manager_protocol, &self.manager_error) {
            (Some(protocol), _) => writeln!(f, "  manager    listens, protocol {protocol}")?,
            (None, Some(why)) => writeln!(f, "  manager    cannot register objects: {why}")?,
            (None, None) => {}
        }
        if let Some(disk) = &self.disk {
            writeln!(f, "{disk}")?;
        }
        let Some(free_space) = &self.free_space else { return Ok(()) };
        let bytes = |value: Option<u64>| value.map_or("not known".into(), |bytes| format!("{} MiB", bytes >> 20));
        let (limit, used, pinned) = (bytes(free_space.quota), bytes(free_space.used), bytes(free_space.pinned));
        write!(f, "  quota      limit {limit}, used {used}, pinned {pinned}; ")?;
        match free_space.bytes {
            u64::MAX => writeln!(f, "no limit for requests"),
            free => writeln!(
                f,
                "requests may write {}, in an hour {}",
                bytes(Some(free)),
                bytes(Some(free_space.hourly_bytes))
            ),
        }?;
        match free_space.unregistered {
            0 => Ok(()),
            waiting => {
                writeln!(f, "  waiting    {} wait to be registered with the cache manager", bytes(Some(waiting)))
            }
        }
    }
}

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { free, total, reserve, free_inodes, inodes, inode_reserve } = self;
        let percent = |share: f64| (share * 100.0).round();
        write!(f, "  disk       {} of {} MiB free, {} % stay free", free >> 20, total >> 20, percent(*reserve))?;
        if *inodes > 0 {
            let percent = percent(*inode_reserve);
            write!(f, "; {free_inodes} of {inodes} inodes free, {percent} % stay free")?;
        }
        write!(f, " (a kubelet evicts pods below 10 or 15 %, and below 5 % of the inodes)")
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}
