//! The configuration file. `deploy/config/snapshotter.toml` shows every key; a test compares it with this module.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundles::layout::is_repository_name;
use node::config::{BadValue, ConfigError, absolute};
use node::logging::LogFormat;
use node::paths;
use serde::{Deserialize, Serialize};

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
    /// Time from the pull of a layer whose whiteouts a bundle listed to the comparison with the layer itself.
    #[serde(with = "humantime_serde")]
    pub check_bundles_after: Duration,
    /// What happens to a published layer whose diff ID its repository does not state.
    pub unverified_layers: UnverifiedLayers,
    /// Whether the start of a container waits for its prefetch.
    pub wait: WaitPolicy,
    /// Maximum time that the start of a container waits for its prefetch.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// Prefetch the images on this node when the snapshotter starts.
    pub prefetch_at_start: bool,
    /// Where metrics are served over HTTP. Without it they are not served.
    pub metrics_address: Option<SocketAddr>,
    /// Format of the log.
    pub log_format: LogFormat,
    /// Repositories with container layers, in order of preference.
    pub repositories: Vec<Repository>,
}

/// What happens to a published layer whose diff ID its repository does not state, so that the chain ID of the image cannot be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnverifiedLayers {
    /// containerd downloads, verifies and unpacks it.
    #[default]
    Unpack,
    /// It is taken from CVMFS. An image can then take the chain ID of another image.
    Trust,
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
            socket: paths::SNAPSHOTTER_SOCKET.into(),
            root: paths::SNAPSHOTTER_ROOT.into(),
            prefetch_socket: None,
            lookup_timeout: Duration::from_secs(2),
            check_bundles_after: Duration::from_secs(600),
            unverified_layers: UnverifiedLayers::Unpack,
            wait: WaitPolicy::None,
            max_wait: Duration::from_secs(2),
            prefetch_at_start: false,
            metrics_address: None,
            log_format: LogFormat::default(),
            repositories: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&node::config::read(path)?, path)
    }

    /// Parses and checks the text of a configuration. `path` is for error messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        node::config::parse(text, path, |config: &mut Self| config.check())
    }

    fn check(&self) -> Result<(), BadValue> {
        absolute("socket", &self.socket)?;
        absolute("root", &self.root)?;
        // These characters separate directories and options in the options of a mount.
        if self.root.as_os_str().as_encoded_bytes().iter().any(|byte| b":,\\".contains(byte)) {
            return Err(BadValue::new("root", "must not contain ':', ',' or '\\': overlayfs cannot mount such a path"));
        }
        if let Some(socket) = &self.prefetch_socket {
            absolute("prefetch_socket", socket)?;
        }
        if self.lookup_timeout.is_zero() {
            return Err(BadValue::new("lookup_timeout", "must be longer than 0"));
        }
        if self.wait != WaitPolicy::None && self.prefetch_socket.is_none() {
            let reason = "needs `prefetch_socket`: without the prefetch daemon there is nothing to wait for";
            return Err(BadValue::new("wait", reason));
        }
        if self.max_wait > LONGEST_WAIT {
            return Err(BadValue::new("max_wait", "must be at most 60s: a kubelet gives up soon after that"));
        }
        let mut names = HashSet::new();
        for repository in &self.repositories {
            let name = &repository.name;
            if !is_repository_name(name) {
                let reason = format!("{name:?} is not a fully qualified repository name");
                return Err(BadValue::new("repositories.name", reason));
            }
            if !names.insert(name) {
                return Err(BadValue::new("repositories.name", format!("{name} is listed twice")));
            }
            absolute("repositories.mount", &repository.mount)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/config/snapshotter.toml");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("test.toml"))
    }

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
        let config = parse(EXAMPLE).unwrap();
        let with_every_key = parse(&uncommented()).unwrap();
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
        assert_eq!(parse("").unwrap(), Config::default());
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
            ("[[repositories]]\nname = \"a.org\"\nmount = \"x\"", "repositories.mount"),
            ("[[repositories]]\nname = \"a.org\"\n[[repositories]]\nname = \"a.org\"\nmount = \"/y\"", "twice"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reported) && error.contains("test.toml"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_repository_is_mounted_below_cvmfs_by_default() {
        let config = parse("[[repositories]]\nname = \"a.org\"").unwrap();
        assert_eq!(config.repositories[0].mount, Path::new("/cvmfs/a.org"));
    }
}
