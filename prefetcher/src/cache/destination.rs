//! Where the objects of a repository go.

use super::capacity::FreeSpace;
use super::error::CacheError;
use super::mount_reader::MountReader;
use super::writer::PosixCache;

/// Where the objects of a repository go. Clones share the cache or the mount.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A cache directory that the daemon writes verified objects to.
    Cache(PosixCache),
    /// The mount of the repository. Nothing can be written there; the CVMFS client fetches the files that are read.
    ThroughMount(MountReader),
}

/// Tells destinations apart. Repositories that share a cache share its ID, so an object is downloaded once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId(usize);

impl Destination {
    /// Makes the destination usable. Called before each request's first object. Blocks for as long as a local disk does.
    pub fn prepare(&self) -> Result<(), CacheError> {
        match self {
            Self::Cache(cache) => cache.prepare(),
            Self::ThroughMount(_) => Ok(()),
        }
    }

    /// Returns how much may be written now. Blocks for as long as a local disk and the cache manager do.
    pub fn free_space(&self) -> Result<FreeSpace, CacheError> {
        match self {
            Self::Cache(cache) => cache.free_space(),
            Self::ThroughMount(reader) => Ok(reader.free_space()),
        }
    }

    /// Whether nobody may write to it now, because the client's tools reload clients or wipe their caches.
    pub fn is_paused(&self) -> bool {
        match self {
            Self::Cache(cache) => cache.is_paused(),
            Self::ThroughMount(_) => false,
        }
    }

    /// Returns the bytes of the client's cache that cannot be evicted now, if they are known. Blocks as [`free_space`] does.
    ///
    /// [`free_space`]: Self::free_space
    pub fn pinned(&self) -> Option<u64> {
        match self {
            Self::Cache(cache) => cache.pinned(),
            Self::ThroughMount(_) => None,
        }
    }

    /// Removes what this process began to write and did not finish.
    pub fn clean(&self) {
        match self {
            Self::Cache(cache) => cache.clean(),
            Self::ThroughMount(_) => {}
        }
    }
}

impl DestinationId {
    /// The ID of the destination number `number`, in the order in which the daemon set them up.
    pub fn new(number: usize) -> Self {
        Self(number)
    }
}
