//! What the live mount tells of its client, by extended attributes.

use std::path::Path;
use std::time::Duration;

use bundles::cvmfs::attribute;
use serde::Serialize;

use super::deadline::within;
use super::transfer::{self, ProxyGroups};

/// A mounted client's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LiveClient {
    /// `user.fqrn`.
    pub fqrn: String,
    /// `user.version`.
    pub version: Option<String>,
    /// `user.pid`.
    pub pid: Option<u32>,
    /// `user.host_list`: URLs, the one in use first.
    pub hosts: Option<String>,
    /// `user.proxy_list`: a line each, groups not told.
    pub proxies: Option<String>,
}

impl LiveClient {
    /// Asks the mount at `path` for the repository `fqrn`. A mount that hangs is given up after the deadline.
    pub fn ask(path: &Path, fqrn: &str, deadline: Duration) -> Result<Self, String> {
        let (root, what) = (path.to_owned(), format!("mount {}", path.display()));
        let told = within(deadline, &what, move || {
            let told = |name: &str| attribute(&root, name);
            let Some(fqrn) = told("user.fqrn")? else { return Ok(None) };
            // Older clients have fewer of these.
            let maybe = |name: &str| told(name).ok().flatten();
            Ok::<_, std::io::Error>(Some(Self {
                fqrn,
                version: maybe("user.version"),
                pid: maybe("user.pid").and_then(|pid| pid.trim().parse().ok()),
                hosts: maybe("user.host_list"),
                proxies: maybe("user.proxy_list"),
            }))
        })?;
        match told {
            Ok(Some(told)) if told.fqrn == fqrn => Ok(told),
            Ok(Some(told)) => Err(format!("{what} is of the repository {:?}, not of {fqrn}", told.fqrn)),
            Ok(None) => Err(format!("{what} has no attribute user.fqrn; no CVMFS client is mounted there")),
            Err(e) => Err(format!("{what}: {e}")),
        }
    }

    /// The servers it uses.
    pub fn servers(&self, fqrn: &str) -> Result<Vec<String>, String> {
        transfer::servers(self.hosts.as_deref().unwrap_or(""), fqrn)
    }

    /// The proxies it uses, tried one after the other, for their groups are not told.
    pub fn proxy_groups(&self) -> Result<ProxyGroups, String> {
        let lines = self.proxies.as_deref().unwrap_or("").lines().map(str::trim).collect::<Vec<_>>();
        transfer::proxies(&lines.join(";")).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cvmfs_client::proxy::Proxy;

    #[test]
    fn lists_of_a_live_client_are_read() {
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
    fn a_directory_without_a_client_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let said = LiveClient::ask(directory.path(), "a.b", Duration::from_secs(30)).unwrap_err();
        assert!(said.contains(&directory.path().display().to_string()), "{said}");
    }
}
