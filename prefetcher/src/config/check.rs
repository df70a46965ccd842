//! Refuses values that cannot work: the key, and what to write instead.

use std::collections::HashSet;

use api::limits::LEAST_BYTES_PER_SECOND;
use node::config::{BadValue, absolute};
use node::cvmfs_client::transfer;

use super::{Config, RepositoryConfig};

impl Config {
    /// Puts names into URLs and refuses what cannot work: the key and what to do.
    pub(super) fn check(&mut self) -> Result<(), BadValue> {
        let wrong = |key: &str, why: &str| Err(BadValue::new(key, why));
        if self.socket_mode > 0o777 {
            return wrong("socket_mode", "more than permission bits; write it in octal, as 0o660");
        }
        for (key, value, most) in [
            ("connections", self.connections as u64, 1024),
            ("timeout_s", self.timeout_s, 3600),
            ("lookup_timeout_s", self.lookup_timeout_s, 3600),
        ] {
            if !(1..=most).contains(&value) {
                return wrong(key, &format!("{value} is not between 1 and {most}"));
            }
        }
        if self.bytes_per_second.is_some_and(|limit| limit < LEAST_BYTES_PER_SECOND) {
            return wrong("bytes_per_second", "less than 1024 brings no object in time; leave it out for no limit");
        }
        if self.requests_per_second == Some(0) {
            return wrong("requests_per_second", "0 brings nothing; leave it out for no limit");
        }
        if self.store_bytes < 1 << 20 {
            return wrong("store_bytes", "less than 1048576 (1 MiB) has no room for a few bundles");
        }
        if self.mount_readers > 8 {
            return wrong("mount_readers", "more than 8 make a stock CVMFS client answer everybody's look-ups late");
        }
        if self.nice > 19 {
            return wrong("nice", "more than 19, which is the most that a process can give way");
        }
        if self.registries.iter().any(|host| host.strip_prefix("http://").unwrap_or(host).contains('/')) {
            return wrong(
                "registries",
                "write hosts only, such as \"registry.example.org\" or \"http://localhost:5000\"",
            );
        }
        if self.retries > 20 {
            return wrong("retries", "more than 20 only delays the message that a server is down");
        }
        if !(self.cache_share > 0.0 && self.cache_share <= 1.0) {
            return wrong("cache_share", "not more than 0 and at most 1; write 0.5 for a half");
        }
        let paths = [("socket", &self.socket), ("store", &self.store), ("client_config", &self.client_config)];
        for (key, path) in paths {
            absolute(path).map_err(|why| BadValue::new(key, why))?;
        }
        if let Some(tcp) = &self.tcp {
            for (key, path) in [("certificate", &tcp.certificate), ("key", &tcp.key), ("client_ca", &tcp.client_ca)] {
                absolute(path).map_err(|why| BadValue::new(format!("tcp: {key}"), why))?;
            }
        }
        let mut names = HashSet::new();
        for repository in &mut self.repositories {
            let name = repository.name.clone();
            repository.check().map_err(|(key, why)| BadValue::new(format!("repository {name:?}: {key}"), why))?;
            if !names.insert(name.clone()) {
                return wrong(&format!("repository {name:?}"), "given twice; merge the two [[repository]] tables");
            }
        }
        Ok(())
    }
}

impl RepositoryConfig {
    fn check(&mut self) -> Result<(), (&'static str, String)> {
        if !bundles::bundle::is_fqrn(&self.name) {
            return Err(("name", "not a fully qualified repository name, such as \"unpacked.cern.ch\"".into()));
        }
        let mount = Some(self.mount());
        for (key, path) in [
            ("mount", &mount),
            ("certificates", &self.certificates),
            ("cache", &self.cache),
            ("workspace", &self.workspace),
        ] {
            path.as_deref().map_or(Ok(()), absolute).map_err(|why| (key, why))?;
        }
        if self.servers.as_ref().is_some_and(Vec::is_empty) {
            return Err(("servers", "empty; give at least one, such as \"http://host/cvmfs/@fqrn@\", or none".into()));
        }
        for server in self.servers.iter_mut().flatten() {
            *server = transfer::server(server, &self.name).map_err(|why| ("servers", why))?;
        }
        if let Some(proxy) = &self.proxy {
            transfer::proxies(proxy).map_err(|why| ("proxy", why.to_string()))?;
        }
        Ok(())
    }
}
