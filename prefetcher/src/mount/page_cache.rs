//! Page cache preload: has the kernel read files through the mount as soon as their objects are in the client's cache.
//!
//! With an object in the client's cache, a container's first use of the file still costs the kernel several requests to the
//! client: where each name is, and what is in the file. They are made here, while the container is still being created.
//!
//! Invariants: at most the configured number of files are open at a time (a stock client answers lookups late when ten or
//! more opens are under way); every read goes through the guard of the mount, so a hung mount stops nothing else; files that do
//! not fit into the queue are skipped; nothing outside of the mount is opened, whatever a bundle says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bundles::bundle::BundleObject;
use bundles::object::ObjectKind;
use bundles::path::RootPath;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use node::mount::Mount;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tracing::debug;

use super::open;

/// Maximum number of files that wait to be read.
const QUEUE: usize = 64 << 10;
/// Maximum number of bytes that are read of a file. Larger files are libraries that are used in part.
const MAX_BYTES: u64 = 16 << 20;
/// Timeout of a read. The client may have to download a catalog first.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads files into the kernel's page cache. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Preloader {
    /// `None` if nothing is read. Takes memory only for what is in it.
    queue: Option<Sender<Wanted>>,
    skipped: Counter,
}

#[derive(Debug)]
struct Wanted {
    mount: Mount,
    path: RootPath,
    /// Of a file; none for a directory, which is only opened.
    size: Option<u64>,
    /// Dropped when the file was read or skipped.
    _done: Option<oneshot::Sender<()>>,
}

impl Preloader {
    /// Reads at most `count` files at a time; with 0, none is ever read. Each read takes one of `permits`, which are shared with
    /// all reads through mounts. `skipped` counts files that were not read: the queue was full, or the file could not be opened or has
    /// another size. Must be called in a tokio runtime.
    pub fn new(count: usize, permits: &Arc<Semaphore>, skipped: Counter) -> Self {
        if count == 0 {
            return Self { queue: None, skipped };
        }
        let (queue, wanted) = channel(QUEUE);
        let wanted = Arc::new(Mutex::new(wanted));
        for _ in 0..count {
            tokio::spawn(work(Arc::clone(&wanted), skipped.clone(), Arc::clone(permits)));
        }
        Self { queue: Some(queue), skipped }
    }

    /// Queues the file of `object`. Never waits.
    pub fn preload(&self, mount: &Mount, object: &BundleObject) {
        // A chunk does not say where in its file it is.
        if object.kind == ObjectKind::File {
            let (mount, path, size) = (mount.clone(), object.path.clone(), Some(object.raw_size));
            self.queue(Wanted { mount, path, size, _done: None });
        }
    }

    /// Queues a directory, so that the client loads its nested catalog, and waits until it did or the directory was skipped. A
    /// layer's catalog costs a container several round trips, one after the other, at its first lookup in the layer.
    pub async fn preload_catalog(&self, mount: &Mount, directory: &RootPath) {
        let (done, loaded) = oneshot::channel();
        self.queue(Wanted { mount: mount.clone(), path: directory.clone(), size: None, _done: Some(done) });
        // Nothing is ever sent: it ends when the other end is dropped.
        let _ = loaded.await;
    }

    /// Counts files or directories that the caller decided not to read.
    pub fn skip(&self, count: usize) {
        if self.queue.is_some() {
            self.skipped.inc_by(count as u64);
        }
    }

    fn queue(&self, wanted: Wanted) {
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(wanted).is_err()) {
            self.skipped.inc();
        }
    }
}

async fn work(wanted: Arc<Mutex<Receiver<Wanted>>>, skipped: Counter, permits: Arc<Semaphore>) {
    loop {
        let next = wanted.lock().await.recv().await;
        let Some(Wanted { mount, path, size, _done }) = next else { return };
        let Ok(_permit) = permits.acquire().await else { return };
        let file = path.clone();
        if let Err(error) = mount.run(TIMEOUT, move |call| read(call.root(), &file, size)).await {
            skipped.inc();
            debug!(%path, %error, "page cache preload skipped a file");
        }
    }
}

fn read(mount: &Path, path: &RootPath, size: Option<u64>) -> std::io::Result<()> {
    match size {
        None => open::open(mount, path).map(drop),
        Some(size) => {
            let file = open::open_sized(mount, path, size)?;
            Ok(posix_fadvise(&file, 0, size.min(MAX_BYTES) as i64, PosixFadviseAdvice::POSIX_FADV_WILLNEED)?)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bundles::object::ContentHash;
    use bundles::path::RootPath;

    fn object(path: &str, raw_size: u64) -> BundleObject {
        let (hash, kind, path) = (ContentHash::sha1([1; 20]), ObjectKind::File, RootPath::new(path).unwrap());
        BundleObject { kind, stored_size: 1, ..BundleObject::file(hash, raw_size, path) }
    }

    #[test]
    fn only_files_of_the_mount_with_the_right_size_are_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir(mount.path().join("d")).unwrap();
        std::fs::write(mount.path().join("d/f"), "four").unwrap();
        std::os::unix::fs::symlink(outside.path(), mount.path().join("link")).unwrap();
        let read = |path: &str, size| super::read(mount.path(), &RootPath::new(path).unwrap(), size);
        read("/d/f", Some(4)).unwrap();
        read("/d", None).unwrap();
        for (path, size) in
            [("/d/f", Some(5)), ("/link/secret", Some(6)), ("/d", Some(4)), ("/none", Some(0)), ("/link", None)]
        {
            assert!(read(path, size).is_err(), "{path} was read");
        }
    }

    #[tokio::test]
    async fn files_that_cannot_be_read_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mount = Mount::new(dir.path());
        let skipped = Counter::default();
        let preloader = Preloader::new(2, &Arc::new(Semaphore::new(8)), skipped.clone());
        preloader.preload(&mount, &object("/none", 1));
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while skipped.get() == 0 {
            assert!(std::time::Instant::now() < end, "nothing was tried");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Preloader::new(0, &Arc::new(Semaphore::new(8)), skipped).preload(&mount, &object("/none", 1));
    }
}
