//! The configuration file. `deploy/config/snapshotter.toml` shows every key; a test compares it with this module.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundles::cvmfs::is_repository_name;
use serde::{Deserialize, Serialize};

/// Where the configuration is read from by default.
pub const DEFAULT_PATH: &str = "/etc/cvmfs-prefetch/snapshotter.toml";

/// The longest `max_wait`. A kubelet gives up on a call soon after that.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The configuration of the snapshotter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The Unix socket for containerd.
    pub socket: PathBuf,
    /// Database, unpacked layers and the files that containers write. On a local file system that overlayfs can write to.
    pub root: PathBuf,
    /// The prefetch daemon's socket. Without it nothing is prefetched.
    pub prefetch_socket: Option<PathBuf>,
    /// Time limit of the lookup of a layer in all repositories, and of the check of a container's mounts.
    #[serde(with = "humantime_serde")]
    pub lookup_timeout: Duration,
    /// Whether the start of a container waits for its prefetch.
    pub wait: WaitPolicy,
    /// Maximum time that the start of a container waits for its prefetch.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// Prefetch the images on this node when the snapshotter starts.
    pub prefetch_at_start: bool,
    /// Where metrics are served over HTTP. Without it they are not served.
    pub metrics_address: Option<SocketAddr>,
    /// Repositories with container layers, in order of preference.
    pub repositories: Vec<Repository>,
}

/// What a container's Prepare does after the prefetch request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitPolicy {
    /// Return at once.
    #[default]
    None,
    /// Wait until all critical objects are in the cache.
    Critical,
    /// Wait until each critical object will be in the cache by the time the container reads it.
    Adaptive,
}

/// A mounted repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repository {
    /// Fully qualified name.
    pub name: String,
    /// Mount point.
    pub mount: PathBuf,
}

impl<'de> Deserialize<'de> for Repository {
    /// The mount point defaults to `/cvmfs/<name>`.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            name: String,
            mount: Option<PathBuf>,
        }
        let Keys { name, mount } = Keys::deserialize(deserializer)?;
        let mount = mount.unwrap_or_else(|| Path::new("/cvmfs").join(&name));
        Ok(Self { name, mount })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: "/run/cvmfs-prefetch/snapshotter/snapshotter.sock".into(),
            root: "/var/lib/cvmfs-prefetch/snapshotter".into(),
            prefetch_socket: None,
            lookup_timeout: Duration::from_secs(2),
            wait: WaitPolicy::None,
            max_wait: Duration::from_secs(2),
            prefetch_at_start: false,
            metrics_address: None,
            repositories: Vec::new(),
        }
    }
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
    /// The file is not TOML, or has unknown keys.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A value is not valid.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with the value, and what was expected.
        problem: String,
    },
}

impl Config {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text)
    }

    /// Parses and checks the text of a configuration.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        absolute("socket", &self.socket)?;
        absolute("root", &self.root)?;
        // These characters separate directories and options in the options of a mount.
        if self.root.as_os_str().as_encoded_bytes().iter().any(|byte| b":,\\".contains(byte)) {
            return Err(value("root", "must not contain ':', ',' or '\\': overlayfs cannot mount such a path"));
        }
        if let Some(socket) = &self.prefetch_socket {
            absolute("prefetch_socket", socket)?;
        }
        if self.lookup_timeout.is_zero() {
            return Err(value("lookup_timeout", "must be longer than 0"));
        }
        if self.wait != WaitPolicy::None && self.prefetch_socket.is_none() {
            return Err(value(
                "wait",
                "needs `prefetch_socket`: without the prefetch daemon there is nothing to wait for",
            ));
        }
        if self.max_wait > LONGEST_WAIT {
            return Err(value("max_wait", "must be at most 60s: a kubelet gives up soon after that"));
        }
        let mut names = HashSet::new();
        for repository in &self.repositories {
            if !is_repository_name(&repository.name) {
                let problem = format!("name: {:?} is not a fully qualified repository name", repository.name);
                return Err(value("repositories", &problem));
            }
            if !names.insert(&repository.name) {
                return Err(value("repositories", &format!("name: {:?} is listed twice", repository.name)));
            }
            absolute(&format!("repositories: mount of {}", repository.name), &repository.mount)?;
        }
        Ok(())
    }
}

fn absolute(key: &str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() { Ok(()) } else { Err(value(key, &format!("{} is not an absolute path", path.display()))) }
}

fn value(key: &str, problem: &str) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/config/snapshotter.toml");

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let mut shown: toml::Table = toml::from_str(&uncommented()).unwrap();
        // Features that are off by default have an example value.
        for key in ["prefetch_socket", "metrics_address"] {
            assert!(shown.remove(key).is_some(), "{key} is not in the example");
        }
        let repositories = shown.remove("repositories").unwrap();
        let mut defaults = toml::Table::try_from(Config::default()).unwrap();
        defaults.remove("repositories");
        assert_eq!(shown, defaults);
        let Some([toml::Value::Table(repository)]) = repositories.as_array().map(Vec::as_slice) else { panic!() };
        assert_eq!(repository.keys().collect::<Vec<_>>(), ["mount", "name"]);
    }

    #[test]
    fn the_example_is_valid_as_it_is_and_with_every_key() {
        let config = Config::parse(EXAMPLE).unwrap();
        let with_every_key = Config::parse(&uncommented()).unwrap();
        assert_eq!(config.repositories, with_every_key.repositories, "the example shows the default mount");
    }

    /// The example with every commented key in force.
    fn uncommented() -> String {
        let is_key = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let line = |line: &'static str| line.strip_prefix("# ").filter(is_key).unwrap_or(line);
        EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_empty_configuration_has_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_key() {
        for (text, reported) in [
            ("socet = \"/x\"", "socet"),
            ("root = \"relative\"", "root"),
            ("root = \"/a:b\"", "root"),
            ("lookup_timeout = \"0s\"", "lookup_timeout"),
            ("lookup_timeout = 2000", "lookup_timeout"),
            ("wait = \"critical\"", "prefetch_socket"),
            ("prefetch_socket = \"/s\"\nwait = \"forever\"", "forever"),
            ("max_wait = \"61s\"", "max_wait"),
            ("[[repositories]]\nmount = \"/x\"", "name"),
            ("[[repositories]]\nname = \"a\"", "fully qualified"),
            ("[[repositories]]\nname = \"../a.org\"", "fully qualified"),
            ("[[repositories]]\nname = \"a.org\"\nmont = \"/x\"", "mont"),
            ("[[repositories]]\nname = \"a.org\"\nmount = \"x\"", "mount of a.org"),
            ("[[repositories]]\nname = \"a.org\"\n[[repositories]]\nname = \"a.org\"\nmount = \"/y\"", "twice"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(reported), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_repository_is_mounted_below_cvmfs_by_default() {
        let config = Config::parse("[[repositories]]\nname = \"a.org\"").unwrap();
        assert_eq!(config.repositories[0].mount, Path::new("/cvmfs/a.org"));
    }
}
