//! The methods of filling a cache.

use serde::Serialize;

/// How the files are brought onto the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Read sequentially through the mount.
    Sequential,
    /// Read through the mount by 8 threads, as many as the CVMFS client uses for its own bundles.
    Readers8,
    /// Read by 16 threads.
    Readers16,
    /// Read by 64 threads.
    Readers64,
    /// Plain requests for all objects over 64 connections.
    Plain,
    /// Fetched by the daemon, object by object.
    Objects,
    /// Fetched by the daemon, with packs.
    Packs,
    /// The lower bound, see [`super::limit`].
    Limit,
}

impl Method {
    pub(super) const ALL: [Self; 8] = [
        Self::Sequential,
        Self::Readers8,
        Self::Readers16,
        Self::Readers64,
        Self::Plain,
        Self::Objects,
        Self::Packs,
        Self::Limit,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential reads",
            Self::Readers8 => "8 readers",
            Self::Readers16 => "16 readers",
            Self::Readers64 => "64 readers",
            Self::Plain => "64 plain requests",
            Self::Objects => "daemon, objects",
            Self::Packs => "daemon, packs",
            Self::Limit => "limit",
        }
    }

    pub(super) fn readers(self) -> usize {
        match self {
            Self::Sequential => 1,
            Self::Readers8 => 8,
            Self::Readers64 => 64,
            _ => 16,
        }
    }
}
