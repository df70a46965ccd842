//! A node for one measurement, with empty caches; removed afterwards. Its files are in memory, see [`MemoryDirectory`].

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use api::client::Client as DaemonClient;
use testbed::namespace::MemoryDirectory;
use testbed::node::{Cvmfs, CvmfsSpec, daemon_client};
use testbed::process::processor_time;
use testbed::site::Site;
use testbed::web::Squid;

use crate::condition::Condition;

/// Always the same name: the daemon's store identifies a bundle's source by its mount point.
const NAME: &str = "bench-node";

/// A client, perhaps with a daemon and a squid. When dropped, they stop and their files are removed.
#[derive(Debug)]
pub(super) struct BenchNode {
    // Fields stop in this order.
    pub(super) cvmfs: Cvmfs,
    squid: Option<Squid>,
    directory: MemoryDirectory,
}

impl BenchNode {
    /// Starts the node on a link with this condition.
    pub(super) fn start(site: &Site, condition: &Condition, spec: CvmfsSpec) -> Result<Self> {
        site.set_link(condition.link());
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

    /// The daemon's process ID.
    pub(super) fn daemon_pid(&self) -> Result<u32> {
        Ok(self.cvmfs.daemon.as_ref().context("the daemon runs")?.pid())
    }

    /// Processor time that the daemon has used so far.
    pub(super) fn daemon_cores(&self) -> Result<Duration> {
        processor_time(self.daemon_pid()?)
    }
}
