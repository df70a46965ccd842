//! A node for one measurement: everything of it is new, and gone afterwards.
//! Its files are in memory, see [`MemoryDirectory`].

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use prefetcher::client::Client as DaemonClient;
use testbed::namespace::MemoryDirectory;
use testbed::node::{Cvmfs, CvmfsSpec, daemon_client};
use testbed::process::processor_time;
use testbed::site::Site;
use testbed::web::Squid;

use crate::condition::Condition;

/// Always the same: the daemon's store knows by its mount point where a bundle came from.
const NAME: &str = "bench-node";

/// Client, perhaps daemon and squid. Dropped, they stop and their files go.
#[derive(Debug)]
pub(super) struct Place {
    // In the order in which they stop.
    pub(super) cvmfs: Cvmfs,
    squid: Option<Squid>,
    directory: MemoryDirectory,
}

impl Place {
    /// Starts it, on a line that is like `condition`.
    pub(super) fn start(site: &Site, condition: &Condition, spec: CvmfsSpec) -> Result<Self> {
        site.set_line(condition.line());
        let memory = MemoryDirectory::new(NAME)?;
        let directory = memory.directory();
        let squid = condition.squid.then(|| Squid::start(&directory.subdirectory("squid")?)).transpose()?;
        let proxy = squid.as_ref().map(Squid::url);
        let cvmfs = Cvmfs::start(site, directory, &CvmfsSpec { proxy, ..spec })?;
        Ok(Self { cvmfs, squid, directory: memory })
    }

    pub(super) fn mount(&self) -> &Path {
        self.cvmfs.client.mount_point()
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.directory().path()
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

    /// What the daemon has used of the cores so far.
    pub(super) fn daemon_cores(&self) -> Result<Duration> {
        processor_time(self.daemon_pid()?)
    }
}
