//! Reads files through a mount, so that the CVMFS client itself fetches their objects.
//!
//! For caches that cannot be written to. It is slower, because a client receives everything in one thread, and it must
//! not be overdone: ten opens at a time block every lookup on the mount. So the daemon reads at most [`READS`] files at
//! a time, over all mounts. Every read goes through the guard of the mount, [`node::mount`].

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bundles::bundle::BundleObject;
use bundles::object::ObjectKind;
use bundles::path::RootPath;
use node::mount::{Mount, MountError};
use tokio::sync::Semaphore;

use super::capacity::{Allowed, FreeSpace};
use crate::mount::open;

/// Maximum number of files that the daemon reads at a time, over all mounts.
pub const READS: usize = 8;
/// Maximum number of reads that a read waits for before it starts.
const QUEUE: u32 = 16;
/// Minimum rate of a link, in bytes per second. It bounds the time for large files.
const MIN_BYTES_PER_SECOND: u64 = 32 << 10;

/// Reads files through the mount of a repository. Clones share the mount and the permits.
#[derive(Debug, Clone)]
pub struct MountReader {
    mount: Mount,
    allowed: Allowed,
    timeout: Duration,
    reads: Arc<Semaphore>,
}

/// Why a file could not be read through the mount.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reads of other files took so long that this one was not started.
    #[error("mount {0}: reads of other files did not end in time")]
    Queue(PathBuf),
    /// The mount did not respond, or the file is not the one that the bundle describes.
    #[error("{path}: {source}")]
    Mount {
        /// Path of the file in the repository.
        path: RootPath,
        /// What the guard of the mount says.
        source: MountError,
    },
}

impl MountReader {
    /// A reader through `mount`. `reads` is shared by all mounts of the daemon. A read may take `timeout`, and time for its
    /// bytes.
    pub fn new(mount: Mount, allowed: Allowed, timeout: Duration, reads: Arc<Semaphore>) -> Self {
        Self { mount, allowed, timeout, reads }
    }

    /// Returns how much a request may read: the configured share of the client's quota. What the client caches is unknown.
    pub fn free_space(&self) -> FreeSpace {
        let Allowed { quota, hourly_share, .. } = self.allowed;
        let Some(quota) = quota else { return FreeSpace::UNLIMITED };
        FreeSpace {
            bytes: self.allowed.share_of(quota),
            hourly_bytes: (quota as f64 * hourly_share) as u64,
            quota: Some(quota),
            ..FreeSpace::UNLIMITED
        }
    }

    /// Has the client fetch `object`, if it does not have it. Reading a file that the client has costs little.
    pub async fn read(&self, object: &BundleObject) -> Result<(), ReadError> {
        let timeout = self.timeout.saturating_add(Duration::from_secs(object.raw_size / MIN_BYTES_PER_SECOND));
        // Reads that wait before this one may each use up their time.
        let permit = tokio::time::timeout(timeout.saturating_mul(QUEUE), self.reads.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(ReadError::Queue(self.mount.path().to_owned())) };
        let owned = object.clone();
        let read = self.mount.run(timeout, move |call| touch(call.root(), &owned)).await;
        read.map_err(|source| ReadError::Mount { path: object.path.clone(), source })
    }
}

/// Opens the file of `object`, which has the client fetch a whole file or a catalog, and reads a byte of a chunk.
fn touch(mount: &Path, object: &BundleObject) -> io::Result<()> {
    match object.kind {
        ObjectKind::File => open::open_sized(mount, &object.path, object.raw_size).map(|_| ()),
        ObjectKind::Chunk => {
            let file = open::open(mount, &object.path)?;
            match file.read_at(&mut [0], object.offset)? {
                0 if object.raw_size > 0 => Err(io::Error::other("the file ends before this chunk")),
                _ => Ok(()),
            }
        }
        // The directory that a catalog is of.
        _ => open::open(mount, &object.path).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bundles::object::ContentHash;

    use super::*;

    fn reader(mount: &Path, timeout: Duration, quota: Option<u64>) -> MountReader {
        let reads = Arc::new(Semaphore::new(READS));
        MountReader::new(Mount::new(mount), Allowed { share: 0.5, quota, ..Allowed::default() }, timeout, reads)
    }

    fn object(path: &str, kind: ObjectKind, offset: u64, raw_size: u64) -> BundleObject {
        let path = RootPath::new(path).unwrap();
        BundleObject { kind, offset, ..BundleObject::file(ContentHash::sha1([1; 20]), raw_size, path) }
    }

    #[tokio::test]
    async fn files_chunks_and_catalogs_of_the_mount_are_read() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir(mount.path().join("d")).unwrap();
        std::fs::write(mount.path().join("d/f"), "four").unwrap();
        std::os::unix::fs::symlink("/etc", mount.path().join("link")).unwrap();
        let reader = reader(mount.path(), Duration::from_secs(30), Some(100));
        use ObjectKind::{Catalog, Chunk, File};
        for good in [object("/d/f", File, 0, 4), object("/d/f", Chunk, 2, 2), object("/d", Catalog, 0, 4096)] {
            reader.read(&good).await.unwrap();
        }
        for bad in [
            object("/d/f", File, 0, 5),
            object("/d/f", Chunk, 4, 2),
            object("/none", File, 0, 0),
            object("/link/hostname", Chunk, 0, 1),
        ] {
            assert!(reader.read(&bad).await.is_err(), "{bad:?}");
        }
        assert_eq!(reader.free_space().bytes, 50);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hung_mount_keeps_no_reads_from_other_mounts() {
        // The mount is a FIFO: opening it without a writer blocks as a hung mount does.
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("mount");
        nix::unistd::mkfifo(&mount, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = reader(&mount, Duration::from_millis(50), None);
        let requested = object("/f", ObjectKind::File, 0, 4);
        let error = reader.read(&requested).await.unwrap_err().to_string();
        assert!(error.contains("/f: ") && error.contains("did not respond"), "{error}");
        let error = reader.read(&requested).await.unwrap_err().to_string();
        assert!(error.contains("is busy") && reader.reads.available_permits() == READS, "{error}");
        // Lets the thread go.
        let _writer = std::fs::File::options().read(true).write(true).open(&mount).unwrap();
    }
}
