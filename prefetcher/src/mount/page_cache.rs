//! Has the kernel read files through the mount as soon as their objects are in the client's cache.
//!
//! With an object in the client's cache, a container's first use of the file still costs the kernel some questions to the
//! client: where is each name, what is in the file. That is asked here, while the container is still being made.
//!
//! Invariants: at most [`Readers::new`]'s number of files are open at a time (a stock client answers look-ups late when ten
//! or more opens are under way); a mount that hangs stops these readers and nothing else; what does not fit into the
//! queue is left out; nothing outside of the mount is opened, whatever a bundle says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bundles::bundle::BundleObject;
use bundles::object::ObjectKind;
use bundles::path::RootPath;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

use super::open;

/// Files that wait to be read.
const QUEUE: usize = 64 << 10;
/// Of larger files only so many bytes are read: libraries of this size are used in part.
const MOST: u64 = 16 << 20;

/// A few threads that read files.
#[derive(Debug)]
pub struct Readers {
    /// Takes memory only for what is in it.
    queue: Option<Sender<Wanted>>,
    left_out: Counter,
}

#[derive(Debug)]
struct Wanted {
    mount: PathBuf,
    path: RootPath,
    /// Of a file; none for a directory, which is only touched.
    size: Option<u64>,
}

impl Readers {
    /// Starts `count` threads; with none, files are never read. A thread reads with one of `permits`, which are shared with
    /// the others that read through mounts.
    pub fn new(count: usize, permits: &Arc<Semaphore>) -> Self {
        let left_out = Counter::default();
        if count == 0 {
            return Self { queue: None, left_out };
        }
        let (queue, wanted) = channel(QUEUE);
        let wanted = Arc::new(Mutex::new(wanted));
        for number in 0..count {
            let (wanted, left_out, permits) = (Arc::clone(&wanted), left_out.clone(), Arc::clone(permits));
            let spawned = std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || read(&wanted, &left_out, &permits));
            if let Err(error) = spawned {
                warn!(%error, "no thread to read files through mounts");
            }
        }
        Self { queue: Some(queue), left_out }
    }

    /// Has the file of `object` in the repository at `mount` read, some time. Never waits.
    pub fn want(&self, mount: &Path, object: &BundleObject) {
        // A chunk does not say where in its file it is.
        if object.kind == ObjectKind::File {
            self.queue(Wanted { mount: mount.to_owned(), path: object.path.clone(), size: Some(object.raw_size) });
        }
    }

    /// Has the client load the nested catalog of a directory, some time. Never waits. A layer's catalog costs a container
    /// several round trips, one after the other, at its first look into the layer.
    pub fn want_catalog(&self, mount: &Path, directory: &RootPath) {
        self.queue(Wanted { mount: mount.to_owned(), path: directory.clone(), size: None });
    }

    fn queue(&self, wanted: Wanted) {
        if self.queue.as_ref().is_some_and(|queue| queue.try_send(wanted).is_err()) {
            self.left_out.inc();
        }
    }

    /// Files that were not read: the queue was full, or they could not be opened, or have another size.
    pub fn left_out(&self) -> &Counter {
        &self.left_out
    }
}

fn read(wanted: &Mutex<Receiver<Wanted>>, left_out: &Counter, permits: &Semaphore) {
    loop {
        let next = wanted.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(wanted) = next else { return };
        let Ok(_permit) = futures::executor::block_on(permits.acquire()) else { return };
        if let Err(error) = read_one(&wanted) {
            left_out.inc();
            debug!(path = %wanted.path, %error, "not read through the mount");
        }
    }
}

fn read_one(Wanted { mount, path, size }: &Wanted) -> std::io::Result<()> {
    match size {
        None => open::open(mount, path).map(drop),
        Some(size) => {
            let file = open::open_sized(mount, path, *size)?;
            Ok(posix_fadvise(&file, 0, (*size).min(MOST) as i64, PosixFadviseAdvice::POSIX_FADV_WILLNEED)?)
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
        let read = |path: &str, size| {
            read_one(&Wanted { mount: mount.path().to_owned(), path: RootPath::new(path).unwrap(), size })
        };
        read("/d/f", Some(4)).unwrap();
        read("/d", None).unwrap();
        for (path, size) in
            [("/d/f", Some(5)), ("/link/secret", Some(6)), ("/d", Some(4)), ("/none", Some(0)), ("/link", None)]
        {
            assert!(read(path, size).is_err(), "{path} was read");
        }
    }

    #[test]
    fn what_cannot_be_read_is_counted() {
        let mount = tempfile::tempdir().unwrap();
        let readers = Readers::new(2, &Arc::new(Semaphore::new(8)));
        readers.want(mount.path(), &object("/none", 1));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while readers.left_out().get() == 0 {
            assert!(std::time::Instant::now() < end, "nothing was tried");
            std::thread::yield_now();
        }
        Readers::new(0, &Arc::new(Semaphore::new(8))).want(mount.path(), &object("/none", 1));
    }
}
