//! Errors of the bundle store.

use std::path::PathBuf;

use super::SCHEMA;
use crate::codec::FormatError;
use crate::image::ChainId;

/// The bundle store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation of RocksDB failed.
    #[error("bundle store {path}: {source}")]
    Database {
        /// Directory of the store.
        path: PathBuf,
        /// What is wrong.
        source: rocksdb::Error,
    },
    /// Another process has it open for writing.
    #[error("bundle store {path} is in use by another process: stop the daemon first, or use its commands")]
    InUse {
        /// Directory of the store.
        path: PathBuf,
    },
    /// There is no store to read.
    #[error("there is no bundle store in {path}: pass the directory that the daemon's configuration names as `store`")]
    Absent {
        /// The directory that was given.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "bundle store {path} has layout {found}, newer than this program supports ({SCHEMA}): upgrade cvmfs-prefetch, or move the directory away (bundles are fetched again)"
    )]
    Newer {
        /// Directory of the store.
        path: PathBuf,
        /// Layout version of the store.
        found: String,
    },
    /// An older program wrote it, and it is opened for reading only.
    #[error("bundle store {path} has layout {found}, this program reads {SCHEMA}: start the daemon to update it")]
    Older {
        /// Directory of the store.
        path: PathBuf,
        /// Layout version of the store.
        found: u32,
    },
    /// A bundle in it is damaged or of another format version.
    #[error("bundle store {path}: {chain}: {source}")]
    Bundle {
        /// Directory of the store.
        path: PathBuf,
        /// Chain ID of the bundle.
        chain: ChainId,
        /// What is wrong.
        source: FormatError,
    },
}

impl StoreError {
    /// Whether the store itself is damaged, so that it cannot be opened.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Database { source, .. } if source.kind() == rocksdb::ErrorKind::Corruption)
    }
}
