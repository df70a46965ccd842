//! A node for one measurement: everything of it is new, and gone afterwards.
//!
//! Its files are in memory (tmpfs). On a disk, what an earlier measurement left to be written or has just deleted slows down
//! the next one: ext4 takes no inode again that was freed in the last minutes, and searches past all of them for each new file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use prefetcher::client::Client as DaemonClient;

use super::options::Condition;
use crate::namespace::SiteDirectory;
use crate::node::{Cvmfs, CvmfsSpec, daemon_client};
use crate::site::Site;
use crate::web::Squid;

/// Always the same: the daemon's store knows by its mount point where a bundle came from.
const NAME: &str = "bench-node";

/// Client, perhaps daemon and squid. Dropped, they stop and their files go.
#[derive(Debug)]
pub(super) struct Place {
    // In the order in which they stop.
    pub(super) cvmfs: Cvmfs,
    squid: Option<Squid>,
    directory: Directory,
}

/// A file system of its own.
#[derive(Debug)]
struct Directory(SiteDirectory);

impl Directory {
    fn mount() -> Result<Self> {
        let directory = SiteDirectory::new(NAME)?;
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        Ok(Self(directory))
    }
}

impl Place {
    /// Starts it, on a line that is like `condition`.
    pub(super) fn start(site: &Site, condition: &Condition, spec: CvmfsSpec) -> Result<Self> {
        site.set_line(condition.line());
        let directory = Directory::mount()?;
        let squid = condition.squid.then(|| Squid::start(&directory.0.subdirectory("squid")?)).transpose()?;
        let proxy = squid.as_ref().map(Squid::url);
        let cvmfs = Cvmfs::start(site, &directory.0, &CvmfsSpec { proxy, ..spec })?;
        Ok(Self { cvmfs, squid, directory })
    }

    pub(super) fn mount(&self) -> &Path {
        self.cvmfs.client.mount_point()
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.0.path()
    }

    pub(super) fn proxy(&self) -> Option<String> {
        self.squid.as_ref().map(Squid::url)
    }

    pub(super) fn daemon(&self) -> DaemonClient {
        daemon_client(self.path())
    }

    /// The daemon's process.
    pub(super) fn daemon_pid(&self) -> Result<u32> {
        Ok(self.cvmfs.daemon.as_ref().context("the daemon runs")?.pid())
    }

    /// What the daemon has used of the cores so far, to a hundredth of a second.
    pub(super) fn daemon_cores(&self) -> Result<Duration> {
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon_pid()?))?;
        // Behind the name, which may hold anything: state and ten more fields, then user and system time.
        let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(ticks * TICK)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let path = self.0.path();
        let gone = umount2(path, MntFlags::MNT_DETACH).map_err(Into::into).and_then(|()| std::fs::remove_dir(path));
        if let Err(error) = gone {
            tracing::warn!(%error, "a measurement's files stay until the end");
        }
    }
}
