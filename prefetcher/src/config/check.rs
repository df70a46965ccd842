//! Refuses values that cannot work: the key, and what to write instead.

use std::collections::HashSet;
use std::time::Duration;

use api::limits::LEAST_BYTES_PER_SECOND;
use node::config::{BadValue, absolute};
use node::cvmfs_client::transfer;

use super::{Config, RepositoryConfig};

/// The longest timeout that can be configured. With more, a hung server or mount would not be noticed on the same day.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// With more threads that open files, a stock CVMFS client makes the lookups of containers wait.
const MAX_PAGE_CACHE_THREADS: usize = 8;

impl Config {
    /// Replaces placeholders in URLs and refuses values that cannot work.
    pub(super) fn check(&mut self) -> Result<(), BadValue> {
        let refuse = |key: &str, reason: String| Err(BadValue::new(key, reason));
        if self.socket_mode > 0o777 {
            return refuse("socket_mode", "has more than permission bits; write it in octal, as 0o660".into());
        }
        if !(1..=1024).contains(&self.max_connections) {
            return refuse("max_connections", format!("{} is not between 1 and 1024", self.max_connections));
        }
        for (key, timeout) in [("timeout", self.timeout), ("lookup_timeout", self.lookup_timeout)] {
            if timeout.is_zero() || timeout > MAX_TIMEOUT {
                let shown = humantime::format_duration(timeout);
                return refuse(key, format!("{shown} is not between \"1ms\" and \"1h\""));
            }
        }
        if self.max_bytes_per_second.is_some_and(|limit| limit < LEAST_BYTES_PER_SECOND) {
            let reason = format!("less than {LEAST_BYTES_PER_SECOND} is too low; omit the key for no limit");
            return refuse("max_bytes_per_second", reason);
        }
        if self.max_requests_per_second == 0 {
            return refuse("max_requests_per_second", "0 allows no request; write 1 or more".into());
        }
        if self.store_max_bytes < 1 << 20 {
            return refuse("store_max_bytes", "less than 1048576 (1 MiB) does not hold a few bundles".into());
        }
        if self.page_cache_threads > MAX_PAGE_CACHE_THREADS {
            let reason = format!("more than {MAX_PAGE_CACHE_THREADS} delay the CVMFS client's lookups");
            return refuse("page_cache_threads", reason);
        }
        if self.nice > 19 {
            return refuse("nice", "more than 19, the lowest priority of a process".into());
        }
        if self.registries.iter().any(|host| host.strip_prefix("http://").unwrap_or(host).contains('/')) {
            let reason = "write hosts only, such as \"registry.example.org\" or \"http://localhost:5000\"";
            return refuse("registries", reason.into());
        }
        if self.retries > 20 {
            return refuse("retries", "more than 20 only delays the error of a server that is down".into());
        }
        if !(self.cache_share > 0.0 && self.cache_share <= 1.0) {
            return refuse("cache_share", "not above 0 and at most 1; write 0.5 for half of the quota".into());
        }
        if !(self.cache_share_per_hour > 0.0 && self.cache_share_per_hour.is_finite()) {
            let reason = "not above 0; write 1.0 for the whole quota once in an hour";
            return refuse("cache_share_per_hour", reason.into());
        }
        if self.disk_reserve.is_some_and(|reserve| !(0.0..1.0).contains(&reserve)) {
            let reason = "not from 0 to below 1; write 0.15 to keep 15 percent of the file system free";
            return refuse("disk_reserve", reason.into());
        }
        let paths = [("socket", &self.socket), ("store", &self.store), ("client_config", &self.client_config)];
        for (key, path) in paths {
            absolute(key, path)?;
        }
        if let Some(tcp) = &self.tcp {
            for (key, path) in [("certificate", &tcp.certificate), ("key", &tcp.key), ("client_ca", &tcp.client_ca)] {
                absolute(&format!("tcp: {key}"), path)?;
            }
        }
        let mut names = HashSet::new();
        for repository in &mut self.repositories {
            let table = format!("repositories {:?}", repository.name);
            let check = repository.check();
            check.map_err(|BadValue { key, reason }| BadValue::new(format!("{table}: {key}"), reason))?;
            if !names.insert(repository.name.clone()) {
                return refuse(&table, "given twice; merge the two [[repositories]] tables".into());
            }
        }
        Ok(())
    }
}

impl RepositoryConfig {
    fn check(&mut self) -> Result<(), BadValue> {
        if !bundles::layout::is_repository_name(&self.name) {
            let reason = "not a fully qualified repository name, such as \"unpacked.cern.ch\"";
            return Err(BadValue::new("name", reason));
        }
        let mount = Some(self.mount());
        for (key, path) in [
            ("mount", &mount),
            ("certificates", &self.certificates),
            ("cache", &self.cache),
            ("workspace", &self.workspace),
        ] {
            path.as_deref().map_or(Ok(()), |path| absolute(key, path))?;
        }
        if self.servers.as_ref().is_some_and(Vec::is_empty) {
            let reason = "empty; list at least one, such as \"http://host/cvmfs/@fqrn@\", or omit the key";
            return Err(BadValue::new("servers", reason));
        }
        for server in self.servers.iter_mut().flatten() {
            let url = transfer::server(server, &self.name);
            *server = url.map_err(|error| BadValue::new("servers", error.to_string()))?;
        }
        if let Some(proxy) = &self.proxy {
            transfer::proxies(proxy).map_err(|error| BadValue::new("proxy", error.to_string()))?;
        }
        Ok(())
    }
}
