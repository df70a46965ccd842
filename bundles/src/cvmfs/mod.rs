//! Reading a CVMFS repository over HTTP, trusting only what is signed.
//!
//! ```text
//! master key (on this machine)
//!   └─ signs .cvmfswhitelist: fingerprints of certificates           [whitelist]
//!        └─ certificate (object X) signs .cvmfspublished             [manifest]
//!             └─ names the root catalog (object C) by its hash       [catalog]
//!                  └─ names nested catalogs and file objects by their hashes
//! ```
//!
//! [`Repository`] follows that chain. The other modules parse bytes and do no I/O, except [`server`]. [`MountedClient`] asks a client
//! on this machine instead.

pub mod catalog;
pub mod key;
pub mod manifest;
mod mounted;
mod repository;
mod server;
pub mod signed;
pub mod whitelist;

pub use catalog::{Chunk, Content, ContentError, Entry, EntryKind};
pub use key::{KeyError, MasterKey};
pub use mounted::{MountedClient, content_of};
pub use repository::{CatalogRef, Repository};
pub use server::Server;

// For fuzz targets.
#[doc(hidden)]
pub use mounted::chunks as listed_chunks;

use crate::object::{ObjectError, ParseHashError};
use crate::path::PathError;

/// A repository cannot be read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum CvmfsError {
    /// The URL of a server cannot be used.
    #[error(
        "invalid server URL {url:?}: {reason}; expected a URL such as http://stratum1.example.org/cvmfs/unpacked.cern.ch"
    )]
    InvalidUrl {
        /// The URL that was given.
        url: String,
        /// What is wrong with the URL.
        reason: String,
    },
    /// The transfer failed.
    #[error("{url}: {source}")]
    Transfer {
        /// The requested URL.
        url: String,
        /// Error of the HTTP client.
        source: reqwest::Error,
    },
    /// The server answered with an error status.
    #[error("{url}: the server answered {status}")]
    Status {
        /// The requested URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// An object has another size than expected.
    #[error("{url}: expected {expected} bytes, the server has {found}")]
    SizeMismatch {
        /// The requested URL.
        url: String,
        /// Expected size in bytes.
        expected: u64,
        /// Actual size in bytes.
        found: u64,
    },
    /// The response is longer than allowed.
    #[error("{url}: the response is longer than {limit} bytes")]
    TooLong {
        /// The requested URL.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The master key cannot be read.
    #[error(
        "master key {path}: {reason}; expected a PEM public key such as /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub"
    )]
    InvalidKey {
        /// The key file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A signed file is malformed.
    #[error("{file} is malformed: {reason}")]
    Malformed {
        /// Name of the file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A signed file cannot be trusted.
    #[error("{file} cannot be trusted: {reason}")]
    Untrusted {
        /// Name of the file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A mounted client does not return what it should.
    #[error("{}: {reason}", path.display())]
    MountedClient {
        /// The mount, or a file below it.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A catalog is not a valid SQLite database, or has invalid content.
    #[error("catalog of {mountpoint}: {reason}")]
    Catalog {
        /// Mount point of the catalog.
        mountpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// An object does not match its hash.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A hash in a signed file is malformed.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
    /// A path in a catalog is malformed.
    #[error(transparent)]
    Path(#[from] PathError),
}
