//! Errors of a cache.

use std::io;
use std::path::PathBuf;

use super::file_system::{FileSystemSize, INODE_RESERVE};

/// Why a cache does not take objects.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The action in words, to be read before the path.
        action: &'static str,
        /// File or directory that it was tried on.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The client's tools want nobody to write.
    #[error(
        "the CVMFS client is being reloaded or its cache wiped: {0} exists; it goes when `cvmfs_config` ends, \
         remove it if none is running"
    )]
    Paused(PathBuf),
    /// The file system would have less free space or fewer free inodes than must stay free.
    #[error(
        "the file system of {dir} has {} of {} MiB and {} of {} inodes free, and {reserve} and {INODE_RESERVE} of all \
         must stay free; free some, or set disk_reserve", size.free >> 20, size.total >> 20, size.free_inodes, size.inodes
    )]
    DiskFull {
        /// The cache directory.
        dir: PathBuf,
        /// Its file system.
        size: FileSystemSize,
        /// Share of the bytes that stays free.
        reserve: f64,
    },
    /// Too much was written that the cache manager does not know.
    #[error(
        "{objects} objects with {} MiB are not registered with the cache manager of {dir}, so nobody evicts them; \
         `cvmfs-prefetchd check` says why", bytes >> 20
    )]
    Unregistered {
        /// The cache directory.
        dir: PathBuf,
        /// Number of these objects.
        objects: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// Another daemon of this node holds the lock of the cache.
    #[error("cache {0} is being filled by another prefetch daemon; stop it or give this one another cache")]
    InUse(PathBuf),
}
