//! Where verified objects go.
//!
//! A CVMFS client reads objects from a [`Destination`]. It is one of:
//!
//! - a cache directory that objects are written to ([`PosixCache`]): the client's own cache, an alien cache or the lower tier of
//!   a tiered cache. They differ in owner and modes ([`directory`]), and in whether objects are registered with a cache manager
//!   ([`cache_manager`], [`registrar`]);
//! - the mount ([`MountReader`]), if the cache cannot be written to: the client fetches the files that are read through it.
//!
//! [`capacity`] computes how much may be written, [`file_system`] what must stay free.

pub mod cache_manager;
pub mod capacity;
mod destination;
pub mod directory;
mod error;
pub mod file_system;
mod hourly;
pub mod mount_reader;
pub mod publish;
pub mod registrar;
mod usage;
mod writer;

pub use destination::{Destination, DestinationId};
pub use directory::{Directory, Rules, TEMPORARY_PREFIX};
pub use error::CacheError;
pub use mount_reader::MountReader;
pub use writer::{IncomingObject, PosixCache};
