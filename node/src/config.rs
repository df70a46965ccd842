//! Loading a daemon's TOML configuration file.
//!
//! A daemon's own type says which keys exist (with `deny_unknown_fields`) and checks their values; every error names the
//! file, and where possible the key and what to write instead.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; give another file with --config")]
    Read {
        /// The configuration file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The text is not TOML, or has an unknown key or a value of a wrong type. The message of the parser shows the line.
    #[error("configuration {path}: {source}")]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// Error of the TOML parser.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot work.
    #[error("configuration {path}: {key}: {reason}")]
    Value {
        /// The configuration file.
        path: PathBuf,
        /// Name of the key, with that of its table.
        key: String,
        /// What is wrong with the value and what to write instead.
        reason: String,
    },
}

/// A value that cannot work. [`parse`] adds the path of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct BadValue {
    /// Name of the key, with that of its table.
    pub key: String,
    /// What is wrong with the value and what to write instead.
    pub reason: String,
}

impl BadValue {
    /// Says that the value of `key` cannot work.
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

/// Reads the text of a configuration file.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })
}

/// Parses the text of a configuration file, then has `check` adjust and verify the values. `path` is used for errors only.
pub fn parse<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    check: impl FnOnce(&mut T) -> Result<(), BadValue>,
) -> Result<T, ConfigError> {
    let syntax = |source| ConfigError::Syntax { path: path.into(), source: Box::new(source) };
    let mut config = toml::from_str(text).map_err(syntax)?;
    check(&mut config).map_err(|BadValue { key, reason }| ConfigError::Value { path: path.into(), key, reason })?;
    Ok(config)
}

/// Refuses a relative path as the value of `key`: it would depend on where the daemon was started.
pub fn absolute(key: &str, path: &Path) -> Result<(), BadValue> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(BadValue::new(key, format!("{} is not an absolute path; start it with /", path.display())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        path: PathBuf,
    }

    fn load(text: &str) -> Result<Config, ConfigError> {
        let check = |config: &mut Config| absolute("path", &config.path);
        parse(text, Path::new("test.toml"), check)
    }

    #[test]
    fn every_error_names_the_file_and_the_key() {
        assert_eq!(load("path = \"/a\"").unwrap().path, Path::new("/a"));
        for (text, expected) in [
            ("", "missing field `path`"),
            ("path = \"/a\"\npaht = 1", "paht"),
            ("path = \"a\"", "path: a is not an absolute path; start it with /"),
        ] {
            let message = load(text).unwrap_err().to_string();
            assert!(message.contains("test.toml") && message.contains(expected), "{message}");
        }
        let missing = read(Path::new("/nonexistent/test.toml")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/test.toml") && missing.contains("--config"), "{missing}");
    }
}
