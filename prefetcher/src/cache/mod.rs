//! Where verified objects go.
//!
//! A [`Sink`] is a place on the node that a CVMFS client reads objects from. It is one of:
//!
//! - a directory that objects are written to ([`PosixCache`]): the client's own cache, an alien cache or the lower tier of
//!   a tiered cache. They differ in owner and modes ([`directory`]), and in whether objects are registered with a
//!   [`quota_manager`];
//! - the client itself ([`ThroughMount`]), where nothing can be written: it fetches what is read through its mount.
//!
//! [`capacity`] says how much may be written.

pub mod capacity;
pub mod directory;
pub mod quota_manager;
mod sink;
pub mod through_mount;
mod writer;

pub use directory::{Rules, TEMPORARY_PREFIX};
pub use sink::{Incoming, Sink, SinkError};
pub use through_mount::ThroughMount;
pub use writer::PosixCache;
