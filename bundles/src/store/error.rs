//! Why the store failed.

use std::path::PathBuf;

use super::layout::SCHEMA;
use crate::codec::BadFile;
use crate::image::ChainId;

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed.
    #[error("bundle store {path}: {source}")]
    Database {
        /// The store's directory.
        path: PathBuf,
        /// Why.
        source: rocksdb::Error,
    },
    /// Another process has it open for writing.
    #[error("bundle store {path} is in use by another process: stop the daemon first, or ask it")]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// There is none to be read.
    #[error("there is no bundle store in {path}: give the daemon's `store` directory")]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// A layout of a newer program.
    #[error(
        "bundle store {path} has layout {found}, this program knows up to {SCHEMA}: upgrade cvmfs-prefetch, or move the directory away (bundles are fetched again)"
    )]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The layout found.
        found: String,
    },
    /// A layout of an older program, and this one only reads.
    #[error("bundle store {path} has layout {found}, this program reads {SCHEMA}: start the daemon, which updates it")]
    Older {
        /// The store's directory.
        path: PathBuf,
        /// The layout found.
        found: u32,
    },
    /// A bundle in it is damaged, or of another version.
    #[error("bundle store {path}: {chain}: {source}")]
    Bundle {
        /// The store's directory.
        path: PathBuf,
        /// Whose bundle.
        chain: ChainId,
        /// Why.
        source: BadFile,
    },
}
