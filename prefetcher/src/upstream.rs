//! Where a repository's objects come from: the CVMFS client's servers, proxies and patience.

use std::path::PathBuf;
use std::time::Duration;

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// None.
    Direct,
    /// The URL of an HTTP proxy.
    Via(String),
}

/// What the client's configuration says of one repository, or ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// URLs of the repository, the preferred one first.
    pub servers: Vec<String>,
    /// Groups in the order of fail-over; within a group the load is shared. Never empty, nor is a group.
    pub proxies: Vec<Vec<Proxy>>,
    /// Without a byte for so long through a proxy, an attempt has failed. `CVMFS_TIMEOUT`.
    pub timeout: Duration,
    /// The same without a proxy. `CVMFS_TIMEOUT_DIRECT`.
    pub timeout_direct: Duration,
    /// Further attempts after a failed one. `CVMFS_MAX_RETRIES`.
    pub retries: u32,
    /// The first pause between attempts; doubled each time. `CVMFS_BACKOFF_INIT`.
    pub first_pause: Duration,
    /// Files and directories with certificates of authorities that `https` servers may have theirs from, beside the system's.
    pub certificates: Vec<PathBuf>,
    /// The longest pause. `CVMFS_BACKOFF_MAX`.
    pub longest_pause: Duration,
}
