//! Reading a CVMFS repository over HTTP, believing nothing that is not signed.
//!
//! ```text
//! master key (on this machine)
//!   └─ signs .cvmfswhitelist: fingerprints of certificates           [whitelist]
//!        └─ certificate (object X) signs .cvmfspublished             [manifest]
//!             └─ names the root catalog (object C) by its hash       [catalog]
//!                  └─ names nested catalogs and file objects by their hashes
//! ```
//!
//! [`Repository`] follows that chain; the modules below parse bytes and do no I/O, except [`server`]. [`Mounted`] asks a client on this machine instead.

pub mod catalog;
pub mod key;
mod layout;
pub mod manifest;
mod mounted;
mod repository;
mod server;
pub mod signed;
pub mod whitelist;

pub use catalog::{Chunk, Content, Entry, EntryKind};
pub use key::MasterKey;
pub(crate) use layout::{in_layer, path_in_image};
pub use mounted::{Mounted, attribute, version};
pub use repository::{CatalogRef, Repository};
pub use server::Server;

// For fuzz targets.
#[doc(hidden)]
pub use mounted::chunks as listed_chunks;

use crate::object::{BadHash, BadObject};
use crate::path::BadPath;

/// Why a repository cannot be read, or not be believed.
#[derive(Debug, thiserror::Error)]
pub enum CvmfsError {
    /// A URL that cannot be used.
    #[error(
        "server URL {url:?} cannot be used: {why}; expected e.g. http://stratum1.example.org/cvmfs/unpacked.cern.ch"
    )]
    BadUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The transfer failed.
    #[error("{url}: {source}")]
    Transfer {
        /// What was asked for.
        url: String,
        /// Why it failed.
        source: reqwest::Error,
    },
    /// The server answered with something else than success.
    #[error("{url}: the server answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// An object has another size than it should.
    #[error("{url}: it has {found} bytes, {expected} are expected")]
    OtherSize {
        /// What was asked for.
        url: String,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// The answer is longer than such a thing may be.
    #[error("{url}: the answer is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The master key cannot be read.
    #[error("master key {path}: {why}; expected a PEM public key such as /etc/cvmfs/keys/cern.ch/cern-it1.cern.ch.pub")]
    BadKey {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A signed file is malformed.
    #[error("{file} is malformed: {why}")]
    Malformed {
        /// Which file.
        file: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A signed file cannot be believed.
    #[error("{file} is not trustworthy: {why}")]
    Untrusted {
        /// Which file.
        file: &'static str,
        /// Why.
        why: String,
    },
    /// A mounted client does not tell what it should.
    #[error("{}: {why}", path.display())]
    Mounted {
        /// The mount, or a file below it.
        path: std::path::PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A catalog cannot be read as SQLite, or holds what a catalog may not hold.
    #[error("catalog of {mountpoint}: {why}")]
    Catalog {
        /// Where the catalog is mounted.
        mountpoint: String,
        /// Why.
        why: String,
    },
    /// An object has other bytes than its name says.
    #[error(transparent)]
    Object(#[from] BadObject),
    /// A hash in a signed file is malformed.
    #[error(transparent)]
    Hash(#[from] BadHash),
    /// A path in a catalog is malformed.
    #[error(transparent)]
    Path(#[from] BadPath),
}
