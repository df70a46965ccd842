//! A repository written by the real CVMFS server, and its listing by the real client: `fixture/` beside this crate's
//! `Cargo.toml`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The repository's name.
pub const FQRN: &str = "unpacked.fixture.test";

/// The web root.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixture")
}

/// The repository's public master key.
pub fn public_key() -> PathBuf {
    directory().join(format!("{FQRN}.pub"))
}

/// One path, as listed by the real client.
#[derive(Debug, Deserialize)]
pub struct Listed {
    /// Path from the repository's root.
    pub path: String,
    /// `file`, `dir` or `link`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Octal, with the prefix `0o`.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Number of links.
    pub nlink: u64,
    /// Target of a symbolic link.
    pub target: Option<String>,
    /// SHA-256 of a file's content.
    pub sha256: Option<String>,
    /// Hash of the nested catalog whose root this is.
    pub catalog: Option<String>,
    /// Extended attribute `user.hash`.
    #[serde(rename = "user.hash")]
    pub hash: Option<String>,
    /// Extended attribute `user.compression`.
    #[serde(rename = "user.compression")]
    pub compression: Option<String>,
    /// Extended attribute `user.chunks`.
    #[serde(rename = "user.chunks")]
    pub chunks: Option<String>,
    /// Extended attribute `user.chunk_list`: hash, offset, size.
    #[serde(rename = "user.chunk_list")]
    pub chunk_list: Option<Vec<[String; 3]>>,
}

impl Listed {
    /// Type and permissions, as in `st_mode`.
    pub fn mode(&self) -> Result<u32> {
        u32::from_str_radix(self.mode.trim_start_matches("0o"), 8).with_context(|| format!("mode of {}", self.path))
    }
}

/// Reads the listing.
pub fn listing() -> Result<Vec<Listed>> {
    let text = std::fs::read_to_string(directory().join("listing.jsonl"))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
