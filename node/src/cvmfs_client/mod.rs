//! What the CVMFS client of this node is configured to do: where it fetches from and where it caches.
//!
//! The daemons use the client's own configuration, so that an administrator has one place to configure.
//!
//! 1. [`parameters`] gives a repository's parameters: as `cvmfs_config showconfig` prints them ([`showconfig`]), or
//!    read from the files ([`shell`]).
//! 2. [`transfer`] makes servers, proxies and time-outs of them, [`cache`] the cache they describe.
//! 3. [`mounted`] asks the live mount for what the parameters lack.
//! 4. [`changes`] says when to read all of it again.
//!
//! Everything below a mount is read through its guard, [`crate::mount`].

pub mod cache;
pub mod changes;
pub mod mounted;
pub mod parameters;
pub mod proxy;
pub mod shell;
pub mod showconfig;
pub mod transfer;
pub mod url;
