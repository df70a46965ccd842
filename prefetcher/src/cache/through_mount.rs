//! Having the client itself fetch objects, by reading files through its mount.
//!
//! For caches that nothing can be written to. It is slower, for a client has one thread for all it receives, and it must
//! not be overdone: ten opens at a time block every look-up on the mount. So a daemon reads [`READERS`] files at a time at
//! most, over all mounts. A read that does not return in time is given up: its thread stays behind until the mount lets
//! go, and until then nothing more is read there.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bundles::bundle::BundleObject;
use bundles::object::{ContentHash, ObjectKind};
use tokio::sync::Semaphore;

use super::capacity::{Allowed, Room};
use super::sink::{Incoming, Sink, SinkError};
use crate::mount::open;

/// Files that the daemon reads through mounts at a time.
pub const READERS: usize = 8;
/// How many reads one may have to wait for before it is its turn.
const QUEUE: u32 = 16;
/// The slowest line that is worth waiting for, in bytes per second.
const SLOWEST: u64 = 32 << 10;

/// The mount of a repository.
#[derive(Debug)]
pub struct ThroughMount {
    mount: PathBuf,
    allowed: Allowed,
    deadline: Duration,
    readers: Arc<Semaphore>,
    /// Reads that were given up and have not returned.
    hung: Arc<AtomicUsize>,
}

/// Why a file could not be read through the mount.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The mount did not answer, or too many reads are waiting for it.
    #[error("{0}")]
    Mount(String),
    /// The mount answered, but the file is not the one that the bundle describes.
    #[error("{0}")]
    File(String),
}

impl ThroughMount {
    /// The mount at `mount`; `readers` is shared by all mounts of the daemon. A read gets `deadline`, and time for its
    /// bytes.
    pub fn new(mount: &Path, allowed: Allowed, deadline: Duration, readers: Arc<Semaphore>) -> Self {
        Self { mount: mount.to_owned(), allowed, deadline, readers, hung: Arc::default() }
    }

    /// Has the client fetch `object`, if it does not have it.
    pub async fn read(&self, object: &BundleObject) -> Result<(), ReadError> {
        let mount = self.mount.display();
        let deadline = self.deadline.saturating_add(Duration::from_secs(object.raw_size / SLOWEST));
        // Others that wait before us may each use up their time.
        let reader = tokio::time::timeout(deadline.saturating_mul(QUEUE), self.readers.acquire()).await;
        let Ok(Ok(_reader)) = reader else {
            return Err(ReadError::Mount(format!("mount {mount}: no reader was free")));
        };
        if self.hung.load(Ordering::Relaxed) > 0 {
            return Err(ReadError::Mount(format!("mount {mount} hangs")));
        }
        let (root, wanted, hung) = (self.mount.clone(), object.clone(), self.hung.clone());
        // Set by who comes second: the thread that returns, or we who give it up.
        let over = Arc::new(AtomicBool::new(false));
        let returned = over.clone();
        let task = tokio::task::spawn_blocking(move || {
            let result = touch(&root, &wanted);
            if returned.swap(true, Ordering::Relaxed) {
                hung.fetch_sub(1, Ordering::Relaxed);
            }
            result
        });
        match tokio::time::timeout(deadline, task).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(e))) => Err(ReadError::File(format!("{mount}{}: {e}", object.path))),
            Ok(Err(e)) => Err(ReadError::Mount(format!("{mount}: reading ended unexpectedly: {e}"))),
            Err(_) => {
                // Counted before it can be taken back.
                self.hung.fetch_add(1, Ordering::Relaxed);
                if over.swap(true, Ordering::Relaxed) {
                    self.hung.fetch_sub(1, Ordering::Relaxed);
                }
                let seconds = deadline.as_secs();
                Err(ReadError::Mount(format!("mount {mount} did not give {} within {seconds} s", object.path)))
            }
        }
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

impl Sink for ThroughMount {
    fn prepare(&self) -> Result<(), SinkError> {
        Ok(())
    }

    fn room(&self) -> Result<Room, SinkError> {
        let bytes = self.allowed.quota.map_or(u64::MAX, |quota| self.allowed.share_of(quota));
        Ok(Room { bytes, quota: self.allowed.quota, ..Room::default() })
    }

    /// Not known. To read what the client has costs little.
    fn contains(&self, _: &ContentHash, _: u64) -> bool {
        false
    }

    fn begin(&self, _: &ContentHash, _: u64, _: &[u8]) -> Result<Box<dyn Incoming>, SinkError> {
        Err(SinkError::MountOnly(self.mount.clone()))
    }

    fn clean(&self) {}

    fn through_mount(&self) -> Option<&ThroughMount> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::path::RootPath;

    fn sink(mount: &Path, deadline: Duration, quota: Option<u64>) -> ThroughMount {
        ThroughMount::new(mount, Allowed { share: 0.5, quota }, deadline, Arc::new(Semaphore::new(READERS)))
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
        let sink = sink(mount.path(), Duration::from_secs(30), Some(100));
        use ObjectKind::{Catalog, Chunk, File};
        for good in [object("/d/f", File, 0, 4), object("/d/f", Chunk, 2, 2), object("/d", Catalog, 0, 4096)] {
            sink.read(&good).await.unwrap();
        }
        for bad in [
            object("/d/f", File, 0, 5),
            object("/d/f", Chunk, 4, 2),
            object("/none", File, 0, 0),
            object("/link/hostname", Chunk, 0, 1),
        ] {
            assert!(sink.read(&bad).await.is_err(), "{bad:?}");
        }
        assert_eq!(sink.room().unwrap().bytes, 50);
        assert!(sink.begin(&ContentHash::sha1([1; 20]), 1, b"/").is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_given_up_is_counted_until_it_returns() {
        // The mount is a FIFO: opening it without a writer blocks as a hung mount does.
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path().join("mount");
        nix::unistd::mkfifo(&mount, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let sink = sink(&mount, Duration::from_millis(50), None);
        let wanted = object("/f", ObjectKind::File, 0, 4);
        let said = sink.read(&wanted).await.unwrap_err().to_string();
        assert!(said.contains("did not give /f"), "{said}");
        let said = sink.read(&wanted).await.unwrap_err().to_string();
        assert!(said.ends_with("hangs") && sink.readers.available_permits() == READERS, "{said}");
        let _writer = std::fs::File::options().read(true).write(true).open(&mount).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while sink.hung.load(Ordering::Relaxed) > 0 {
            assert!(std::time::Instant::now() < end, "the thread has not returned");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
