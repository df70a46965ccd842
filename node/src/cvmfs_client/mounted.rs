//! The running client's own view, from extended attributes of its mount point.

use std::path::PathBuf;
use std::time::Duration;

use bundles::attribute::attribute;
use serde::Serialize;

use super::transfer::{self, ProxyError, ProxyGroups};
use super::url::UrlError;
use crate::mount::{Mount, MountError};

/// Attributes of a running client. Older clients have fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LiveClient {
    /// `user.fqrn`: the repository that is mounted.
    pub fqrn: String,
    /// `user.version`: version of the client.
    pub version: Option<String>,
    /// `user.pid`: process of the client.
    pub pid: Option<u32>,
    /// `user.host_list`: URLs, the one in use first.
    pub hosts: Option<String>,
    /// `user.proxy_list`: one per line, without groups.
    pub proxies: Option<String>,
}

/// Why the running client cannot be queried.
#[derive(Debug, thiserror::Error)]
pub enum LiveClientError {
    /// The mount did not respond, or responded with an error.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Another repository is mounted there.
    #[error("mount {mount} belongs to the repository {found:?}, not to {expected}")]
    OtherRepository {
        /// The mount point.
        mount: PathBuf,
        /// The repository that is mounted.
        found: String,
        /// The repository that was expected.
        expected: String,
    },
    /// No CVMFS client has anything mounted there.
    #[error("mount {0} has no attribute user.fqrn; no CVMFS client is mounted there")]
    NotMounted(PathBuf),
}

impl LiveClient {
    /// Queries the client that has the repository `fqrn` at `mount`.
    pub fn query(mount: &Mount, fqrn: &str, timeout: Duration) -> Result<Self, LiveClientError> {
        let live = mount.run_blocking(timeout, |call| {
            let get = |name: &str| attribute(call.root(), name);
            let Some(fqrn) = get("user.fqrn")? else { return Ok(None) };
            // Older clients have fewer of these.
            let optional = |name: &str| get(name).ok().flatten();
            Ok(Some(Self {
                fqrn,
                version: optional("user.version"),
                pid: optional("user.pid").and_then(|pid| pid.trim().parse().ok()),
                hosts: optional("user.host_list"),
                proxies: optional("user.proxy_list"),
            }))
        })?;
        match live {
            Some(live) if live.fqrn == fqrn => Ok(live),
            Some(live) => Err(LiveClientError::OtherRepository {
                mount: mount.path().to_owned(),
                found: live.fqrn,
                expected: fqrn.to_owned(),
            }),
            None => Err(LiveClientError::NotMounted(mount.path().to_owned())),
        }
    }

    /// The servers that the client uses.
    pub fn servers(&self, fqrn: &str) -> Result<Vec<String>, UrlError> {
        transfer::servers(self.hosts.as_deref().unwrap_or(""), fqrn)
    }

    /// The proxies that the client uses, each as a group of its own, because the attribute has no groups.
    pub fn proxy_groups(&self) -> Result<ProxyGroups, ProxyError> {
        let lines = self.proxies.as_deref().unwrap_or("").lines().map(str::trim).collect::<Vec<_>>();
        transfer::proxies(&lines.join(";"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cvmfs_client::proxy::Proxy;

    #[test]
    fn server_and_proxy_lists_of_a_running_client_are_parsed() {
        let live = LiveClient {
            hosts: Some("http://one/cvmfs/a.b;http://two/cvmfs/a.b".into()),
            proxies: Some("http://10.0.0.1:3128\nDIRECT\n".into()),
            ..LiveClient::default()
        };
        assert_eq!(live.servers("a.b").unwrap(), ["http://one/cvmfs/a.b", "http://two/cvmfs/a.b"]);
        let expected = vec![vec![Proxy::Via("http://10.0.0.1:3128".into())], vec![Proxy::Direct]];
        assert_eq!(live.proxy_groups().unwrap(), expected);
        assert!(LiveClient::default().proxy_groups().is_err());
        assert!(LiveClient::default().servers("a.b").unwrap().is_empty());
    }

    #[test]
    fn a_directory_without_a_client_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mount = Mount::new(directory.path());
        let error = LiveClient::query(&mount, "a.b", Duration::from_secs(30)).unwrap_err();
        let is_expected = match &error {
            LiveClientError::NotMounted(path) => path == directory.path(),
            // File systems without user attributes, such as older tmpfs.
            LiveClientError::Mount(MountError::Io { mount, source }) => {
                mount == directory.path() && source.kind() == std::io::ErrorKind::Unsupported
            }
            LiveClientError::Mount(_) | LiveClientError::OtherRepository { .. } => false,
        };
        assert!(is_expected, "{error:?}");
    }
}
