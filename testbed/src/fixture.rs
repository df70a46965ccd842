//! The repository that the real server wrote, and what the real client showed of it: `fixture/` beside this crate's
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

/// One path, as the real client showed it.
#[derive(Debug, Deserialize)]
pub struct Listed {
    /// From the repository's root on.
    pub path: String,
    /// `file`, `dir` or `link`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Octal, with `0o` before.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Number of links.
    pub nlink: u64,
    /// Of a symbolic link.
    pub target: Option<String>,
    /// Of a file's content.
    pub sha256: Option<String>,
    /// Hash of the nested catalog that begins here.
    pub catalog: Option<String>,
    /// `user.hash`.
    #[serde(rename = "user.hash")]
    pub hash: Option<String>,
    /// `user.compression`.
    #[serde(rename = "user.compression")]
    pub compression: Option<String>,
    /// `user.chunks`.
    #[serde(rename = "user.chunks")]
    pub chunks: Option<String>,
    /// `user.chunk_list`: hash, offset, size.
    #[serde(rename = "user.chunk_list")]
    pub chunk_list: Option<Vec<[String; 3]>>,
}

impl Listed {
    /// Type and permissions, as `stat` gives them.
    pub fn mode(&self) -> Result<u32> {
        u32::from_str_radix(self.mode.trim_start_matches("0o"), 8).with_context(|| format!("mode of {}", self.path))
    }
}

/// All paths.
pub fn listing() -> Result<Vec<Listed>> {
    let text = std::fs::read_to_string(directory().join("listing.jsonl"))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
