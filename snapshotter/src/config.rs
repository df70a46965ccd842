//! The configuration file.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wait::Policy;

/// Where the configuration is looked for if no other place is given.
pub const DEFAULT_PATH: &str = "/etc/cvmfs-prefetch/snapshotter.toml";

/// The longest wait of a container's start that can be configured, in milliseconds.
const MOST_WAIT_MS: u64 = 60_000;

/// What the site decides.
///
/// ```
/// let config = snapshotter::config::Config::parse(r#"
///     socket = "/run/cvmfs-prefetch/snapshotter.sock"       # containerd's `address`
///     root = "/var/lib/cvmfs-prefetch/snapshotter"          # metadata, unpacked layers, containers' writes
///     prefetch_socket = "/run/cvmfs-prefetchd/prefetchd.sock" # leave out for no prefetch
///     look_up_deadline_ms = 2000
///     wait = "none"                                         # or "critical", "adaptive": see docs/src/snapshotter.md
///     wait_ms = 2000
///     prefetch_at_start = false
///     metrics_address = "127.0.0.1:9436"                    # leave out for no metrics
///
///     [[repositories]]                                      # asked in this order
///     name = "unpacked.cern.ch"
///     mount = "/cvmfs/unpacked.cern.ch"
/// "#).unwrap();
/// assert_eq!(config.repositories[0].name, "unpacked.cern.ch");
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The Unix socket to listen on.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Everything that must survive. On a local file system that overlayfs can write to.
    #[serde(default = "default_root")]
    pub root: PathBuf,
    /// The mounted repositories, in the order in which they are preferred.
    #[serde(default)]
    pub repositories: Vec<Repository>,
    /// The prefetch daemon's socket. Without it no hints are given.
    #[serde(default)]
    pub prefetch_socket: Option<PathBuf>,
    /// Whether the start of a container waits for its prefetch.
    #[serde(default)]
    pub wait: Policy,
    /// How long at most, in milliseconds.
    #[serde(default = "default_wait_ms")]
    pub wait_ms: u64,
    /// Whether the images that are on the node are prefetched when this program starts.
    #[serde(default)]
    pub prefetch_at_start: bool,
    /// Where metrics are served over HTTP; nowhere if not given.
    #[serde(default)]
    pub metrics_address: Option<SocketAddr>,
    /// How long the Prepare of a layer may wait for the repositories, in milliseconds.
    #[serde(default = "default_look_up_deadline_ms")]
    pub look_up_deadline_ms: u64,
}

/// A mounted repository.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its fully qualified name.
    pub name: String,
    /// Where it is mounted.
    pub mount: PathBuf,
}

fn default_socket() -> PathBuf {
    "/run/cvmfs-prefetch/snapshotter.sock".into()
}

fn default_root() -> PathBuf {
    "/var/lib/cvmfs-prefetch/snapshotter".into()
}

fn default_wait_ms() -> u64 {
    2000
}

fn default_look_up_deadline_ms() -> u64 {
    2000
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has keys we do not know.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A value cannot be right.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
}

impl Config {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text)
    }

    /// Reads and checks the text of a configuration.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// How long the Prepare of a layer may wait for the repositories.
    pub fn look_up_deadline(&self) -> Duration {
        Duration::from_millis(self.look_up_deadline_ms)
    }

    /// How long the start of a container may wait for its prefetch.
    pub fn wait_bound(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    fn check(&self) -> Result<(), ConfigError> {
        absolute("socket", &self.socket)?;
        absolute("root", &self.root)?;
        // These two would break the options of a mount, where they separate directories and options.
        if self.root.as_os_str().as_encoded_bytes().iter().any(|byte| b":,\\".contains(byte)) {
            return Err(value("root", "must not contain ':', ',' or '\\': overlayfs cannot mount such a path"));
        }
        if let Some(socket) = &self.prefetch_socket {
            absolute("prefetch_socket", socket)?;
        }
        if self.look_up_deadline_ms == 0 {
            return Err(value("look_up_deadline_ms", "must be at least 1"));
        }
        if self.wait != Policy::None && self.prefetch_socket.is_none() {
            return Err(value("wait", "needs a prefetch_socket: without a daemon there is nothing to wait for"));
        }
        if self.wait_ms > MOST_WAIT_MS {
            return Err(value(
                "wait_ms",
                &format!("must be at most {MOST_WAIT_MS}: a kubelet gives up soon after that"),
            ));
        }
        let mut names = HashSet::new();
        for repository in &self.repositories {
            absolute(&format!("mount of the repository {:?}", repository.name), &repository.mount)?;
            if repository.name.is_empty() || !names.insert(&repository.name) {
                return Err(value("repositories", &format!("the name {:?} is empty or given twice", repository.name)));
            }
        }
        Ok(())
    }
}

fn absolute(key: &str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() { Ok(()) } else { Err(value(key, &format!("expected an absolute path, got {path:?}"))) }
}

fn value(key: &str, problem: &str) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_configuration_is_the_default_one() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.look_up_deadline(), Duration::from_secs(2));
        assert!(config.repositories.is_empty() && config.prefetch_socket.is_none());
    }

    #[test]
    fn a_mistake_is_told_by_its_key() {
        for (text, told) in [
            ("socet = \"/x\"", "socet"),
            ("root = \"relative\"", "root"),
            ("root = \"/a:b\"", "root"),
            ("look_up_deadline_ms = 0", "look_up_deadline_ms"),
            ("wait = \"critical\"", "prefetch_socket"),
            ("prefetch_socket = \"/s\"\nwait = \"forever\"", "forever"),
            ("wait_ms = 60001", "wait_ms"),
            ("[[repositories]]\nname = \"a\"", "mount"),
            ("[[repositories]]\nname = \"a\"\nmount = \"x\"", "\"a\""),
            ("[[repositories]]\nname = \"a\"\nmount = \"/x\"\n[[repositories]]\nname = \"a\"\nmount = \"/y\"", "twice"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }
}
