//! The daemon's configuration file. `prefetchd.toml` beside this crate's `Cargo.toml` documents every key.
//!
//! [`Config::parse`] is strict: unknown keys and values that cannot work are refused with a message that names the key
//! and says what to write. It looks at nothing but the text.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::listen::TcpConfig;
use crate::logging::LogFormat;

/// Where the daemon looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/cvmfs-prefetch/prefetchd.toml";
/// Where the daemon listens.
pub const DEFAULT_SOCKET: &str = "/run/cvmfs-prefetch/prefetchd.sock";
/// Where the daemon keeps bundles.
pub const DEFAULT_STORE: &str = "/var/lib/cvmfs-prefetch/store";

/// What the file says, defaults filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Unix socket of the API.
    #[serde(default = "defaults::socket")]
    pub socket: PathBuf,
    /// Permissions of the socket.
    #[serde(default = "defaults::socket_mode")]
    pub socket_mode: u32,
    /// User that owns the socket, by name or number.
    #[serde(default)]
    pub socket_owner: Option<String>,
    /// Group of the socket, by name or number.
    #[serde(default)]
    pub socket_group: Option<String>,
    /// Where metrics are served over HTTP; nowhere if not given.
    #[serde(default)]
    pub metrics_address: Option<SocketAddr>,
    /// How the log is written.
    #[serde(default)]
    pub log_format: LogFormat,
    /// The API over TCP; not served if not given.
    #[serde(default)]
    pub tcp: Option<TcpConfig>,
    /// Directory of the bundle store.
    #[serde(default = "defaults::store")]
    pub store: PathBuf,
    /// Most bytes of bundles in it.
    #[serde(default = "defaults::store_bytes")]
    pub store_bytes: u64,
    /// Most connections at a time, over all repositories.
    #[serde(default = "defaults::connections")]
    pub connections: usize,
    /// How many threads read fetched files through their mount, for the kernel to have them. 0: none. At most 8.
    #[serde(default = "defaults::mount_readers")]
    pub mount_readers: usize,
    /// Seconds without a byte after which an attempt to fetch fails.
    #[serde(default = "defaults::timeout_s")]
    pub timeout_s: u64,
    /// Further rounds over the servers after a failed one.
    #[serde(default = "defaults::retries")]
    pub retries: u32,
    /// Seconds for which the absence of a bundle is believed.
    #[serde(default = "defaults::remember_absent_s")]
    pub remember_absent_s: u64,
    /// Seconds after which a store or mount that does not answer is given up.
    #[serde(default = "defaults::lookup_timeout_s")]
    pub lookup_timeout_s: u64,
    /// The repositories to serve.
    #[serde(rename = "repository", default)]
    pub repositories: Vec<RepositoryConfig>,
}

/// One `[[repository]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Fully qualified name.
    pub name: String,
    /// Where it is mounted. `/cvmfs/<name>` if not given: see [`RepositoryConfig::mount`].
    #[serde(default)]
    mount: Option<PathBuf>,
    /// URLs of the repository, the preferred one first. `@fqrn@` was replaced by [`Config::parse`].
    pub servers: Vec<String>,
    /// URL of an HTTP proxy.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Cache directory of the CVMFS client.
    pub cache: PathBuf,
}

impl RepositoryConfig {
    /// Where the repository is mounted.
    pub fn mount(&self) -> PathBuf {
        self.mount.clone().unwrap_or_else(|| Path::new("/cvmfs").join(&self.name))
    }
}

mod defaults {
    use std::path::PathBuf;

    pub(super) fn socket() -> PathBuf {
        super::DEFAULT_SOCKET.into()
    }
    pub(super) fn socket_mode() -> u32 {
        0o660
    }
    pub(super) fn store() -> PathBuf {
        super::DEFAULT_STORE.into()
    }
    pub(super) fn store_bytes() -> u64 {
        bundles::store::DEFAULT_LIMIT
    }
    pub(super) fn connections() -> usize {
        64
    }
    pub(super) fn mount_readers() -> usize {
        2
    }
    pub(super) fn timeout_s() -> u64 {
        10
    }
    pub(super) fn retries() -> u32 {
        3
    }
    pub(super) fn remember_absent_s() -> u64 {
        5
    }
    pub(super) fn lookup_timeout_s() -> u64 {
        5
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}; give another one with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the TOML we expect. The message shows the line.
    #[error("configuration {path}: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot work.
    #[error("configuration {path}: {key}: {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|source| ConfigError::Syntax { path: path.into(), source: Box::new(source) })?;
        config.check().map_err(|(key, why)| ConfigError::Value { path: path.into(), key, why })?;
        Ok(config)
    }

    /// Replaces `@fqrn@` and refuses what cannot work: the key and what to do.
    fn check(&mut self) -> Result<(), (String, String)> {
        let wrong = |key: &str, why: &str| Err((key.to_owned(), why.to_owned()));
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
        if self.store_bytes < 1 << 20 {
            return wrong("store_bytes", "less than 1048576 (1 MiB) has no room for a few bundles");
        }
        if self.mount_readers > 8 {
            return wrong("mount_readers", "more than 8 make a stock CVMFS client answer everybody's look-ups late");
        }
        if self.retries > 20 {
            return wrong("retries", "more than 20 only delays the message that a server is down");
        }
        for (key, path) in [("socket", &self.socket), ("store", &self.store)] {
            absolute(path).map_err(|why| (key.to_owned(), why))?;
        }
        if let Some(tcp) = &self.tcp {
            for (key, path) in [("certificate", &tcp.certificate), ("key", &tcp.key), ("client_ca", &tcp.client_ca)] {
                absolute(path).map_err(|why| (format!("tcp: {key}"), why))?;
            }
        }
        if self.repositories.is_empty() {
            return wrong("repository", "there is none; add a [[repository]] with name, servers and cache");
        }
        let mut names = std::collections::HashSet::new();
        for repository in &mut self.repositories {
            let name = repository.name.clone();
            repository.check().map_err(|(key, why)| (format!("repository {name:?}: {key}"), why))?;
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
        absolute(&self.mount()).map_err(|why| ("mount", why))?;
        absolute(&self.cache).map_err(|why| ("cache", why))?;
        if self.servers.is_empty() {
            return Err(("servers", "empty; give at least one, such as \"http://host/cvmfs/@fqrn@\"".into()));
        }
        for server in &mut self.servers {
            *server = server.replace("@fqrn@", &self.name).trim_end_matches('/').to_owned();
            http_url(server).map_err(|why| ("servers", why))?;
        }
        if let Some(proxy) = &self.proxy {
            http_url(proxy).map_err(|why| ("proxy", why))?;
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<(), String> {
    match path.is_absolute() {
        true => Ok(()),
        false => Err(format!("{} is not an absolute path; start it with /", path.display())),
    }
}

fn http_url(text: &str) -> Result<(), String> {
    let fix = "write it as http://host:port/path";
    let url = Url::parse(text).map_err(|e| format!("{text:?} is not a URL ({e}); {fix}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(()),
        _ => Err(format!("{text:?} is not an HTTP URL; {fix}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXAMPLE: &str = include_str!("../prefetchd.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("test.toml"))
    }

    #[test]
    fn the_example_is_accepted_and_documents_the_defaults() {
        let config = parse(EXAMPLE).unwrap();
        let repository = &config.repositories[0];
        assert_eq!(repository.servers[1], "http://stratum-two.example.org/cvmfs/unpacked.example.org");
        assert_eq!(repository.mount(), Path::new("/cvmfs/unpacked.example.org"));
        // Every commented key, put in force, changes nothing.
        let spelled: String = EXAMPLE.lines().map(uncommented).collect();
        assert_ne!(spelled.lines().collect::<Vec<_>>(), EXAMPLE.lines().collect::<Vec<_>>());
        let mut spelled = parse(&spelled).unwrap();
        assert_eq!(spelled.repositories[0].proxy.take().unwrap(), "http://squid.example.org:3128");
        assert_eq!(spelled.repositories[0].mount.take().unwrap(), repository.mount());
        // What is off unless it is given.
        assert!(spelled.socket_owner.take().is_some() && spelled.socket_group.take().is_some());
        assert!(spelled.metrics_address.take().is_some() && spelled.tcp.take().is_some());
        assert_eq!(format!("{spelled:?}"), format!("{config:?}"));
    }

    fn uncommented(line: &str) -> String {
        let is_key = |l: &&str| *l == "[tcp]" || l.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
        format!("{}\n", line.strip_prefix("# ").filter(is_key).unwrap_or(line))
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let cases = [
            ("conections = 3", "conections"),
            ("socket_mode = 660", "0o660"),
            ("connections = 0", "connections"),
            ("timeout_s = 0", "timeout_s"),
            ("retries = 99", "retries"),
            ("store_bytes = 256", "store_bytes: less than 1048576"),
            ("mount_readers = 9", "mount_readers"),
            ("store = \"here\"", "store: here is not an absolute path"),
        ];
        for (line, expected) in cases {
            let message = parse(&format!("{line}\n{EXAMPLE}")).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("test.toml"), "{line}: {message}");
        }
        let cases = [
            ("name = \"unpacked.example.org\"", "name = \"../x\"", "name: not a fully qualified"),
            ("cache = \"/var/lib", "cache = \"lib", "cache: lib/cvmfs/shared is not an absolute"),
            ("cache = ", "cash = ", "cash"),
            ("http://stratum-two", "ftp://stratum-two", "servers: \"ftp://"),
            ("http://stratum-two", "stratum-two", "servers: \"stratum-two"),
        ];
        for (from, to, expected) in cases {
            let message = parse(&EXAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(expected), "{to}: {message}");
        }
        let tcp = "[tcp]\naddress = \"127.0.0.1:1\"\ncertificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"/a\"\n";
        let with_tcp =
            |from: &str, to: &str| parse(&EXAMPLE.replace("[[repo", &format!("{}[[repo", tcp.replace(from, to))));
        assert!(with_tcp("", "").is_ok());
        for (line, missing) in [
            ("address = \"127.0.0.1:1\"", "address"),
            ("certificate = \"/c\"", "certificate"),
            ("key = \"/k\"", "key"),
            ("client_ca = \"/a\"", "client_ca"),
        ] {
            let message = with_tcp(line, "").unwrap_err().to_string();
            assert!(message.contains(&format!("missing field `{missing}`")), "{message}");
        }
        let message = with_tcp("/k", "k").unwrap_err().to_string();
        assert!(message.contains("tcp: key: k is not an absolute path"), "{message}");
        let twice = format!("{EXAMPLE}{}", &EXAMPLE[EXAMPLE.find("[[").unwrap()..]);
        assert!(parse(&twice).unwrap_err().to_string().contains("given twice"));
        assert!(parse("").unwrap_err().to_string().contains("add a [[repository]]"));
    }
}
