//! Servers and proxies of one repository.

use std::path::PathBuf;
use std::time::Duration;

use node::cvmfs_client::proxy::Proxy;
use node::cvmfs_client::transfer::TransferPolicy;

/// Where a repository's objects are downloaded from, as the CVMFS client or this daemon is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// URLs of the repository, the preferred one first.
    pub servers: Vec<String>,
    /// Proxy groups in the order of failover; the proxies of a group share the load. Neither the list nor a group is empty.
    pub proxies: Vec<Vec<Proxy>>,
    /// Timeouts and retries.
    pub policy: TransferPolicy,
    /// Files and directories with certificate authorities for `https` servers, in addition to the system's.
    pub certificates: Vec<PathBuf>,
}

impl Upstream {
    /// How long a server may send nothing when it is reached through `proxy`.
    pub fn timeout_to(&self, proxy: &Proxy) -> Duration {
        match proxy {
            Proxy::Direct => self.policy.timeout_direct,
            Proxy::Via(_) => self.policy.timeout,
        }
    }
}
