//! The interface of a place on the node that a CVMFS client reads objects from.

use std::io::{self, Write};
use std::path::PathBuf;

use bundles::object::ContentHash;

use super::capacity::Room;
use super::through_mount::ThroughMount;

/// A place for objects. All methods block for as long as a local disk does.
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// Makes the sink usable, or says why it is not. Called before each request's first object.
    fn prepare(&self) -> Result<(), SinkError>;

    /// How much may be written now.
    fn room(&self) -> Result<Room, SinkError>;

    /// Whether the object is there with its full size.
    fn contains(&self, hash: &ContentHash, raw_size: u64) -> bool;

    /// Takes the raw bytes of an object that is not visible to anyone yet. The description, a path, is for people.
    fn begin(&self, hash: &ContentHash, raw_size: u64, description: &[u8]) -> Result<Box<dyn Incoming>, SinkError>;

    /// Removes what this process began and did not finish.
    fn clean(&self);

    /// Set if objects cannot be put here, but are brought by the client when they are read through its mount.
    fn through_mount(&self) -> Option<&ThroughMount> {
        None
    }
}

/// An object on its way in. Dropped without [`Incoming::commit`], it leaves nothing behind.
pub trait Incoming: Write + Send {
    /// Makes the object visible. To be called only when its hash and size were found right.
    fn commit(self: Box<Self>) -> Result<(), SinkError>;
}

/// A sink that does not take objects.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else writes there.
    #[error("cache {0} is being filled by another prefetch daemon; stop it or give this one another cache")]
    InUse(PathBuf),
    /// Objects cannot be written at all.
    #[error("objects of {0} can only be read through its mount")]
    MountOnly(PathBuf),
}
