//! Errors of a cache.

use std::io;
use std::path::PathBuf;

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
    /// Another daemon of this node holds the lock of the cache.
    #[error("cache {0} is being filled by another prefetch daemon; stop it or give this one another cache")]
    InUse(PathBuf),
}
