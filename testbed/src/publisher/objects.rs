//! The content-addressed storage of a repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use bundles::object::{ContentHash, ObjectKind};
use libdeflater::{CompressionLvl, Compressor};

/// Level of the objects' zlib streams: CVMFS uses zlib's default.
const ZLIB_LEVEL: i32 = 6;

/// Contents that may wait for a compressing thread; limits the memory for a large layer.
const WAITING: usize = 16;

/// The directory `data` and the signed files beside it.
#[derive(Debug)]
pub(super) struct Objects {
    web_root: PathBuf,
}

/// An object that is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    pub(super) hash: ContentHash,
    /// Size of the content, decompressed.
    pub(super) raw_size: u64,
}

impl Objects {
    pub(super) fn create(web_root: &Path) -> Result<Self> {
        for directory in 0..=0xff {
            let path = web_root.join(format!("data/{directory:02x}"));
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        Ok(Self { web_root: web_root.to_owned() })
    }

    pub(super) fn path(&self, hash: &ContentHash, kind: ObjectKind) -> PathBuf {
        self.web_root.join(hash.url_path(kind))
    }

    /// Compresses and stores `content` unless it is stored already.
    pub(super) fn put(&self, content: &[u8], kind: ObjectKind) -> Result<Stored> {
        let level = CompressionLvl::new(ZLIB_LEVEL).map_err(|e| anyhow!("{e:?}"))?;
        let mut compressor = Compressor::new(level);
        let mut bytes = vec![0; compressor.zlib_compress_bound(content.len())];
        let size = compressor.zlib_compress(content, &mut bytes).context("cannot compress an object")?;
        bytes.truncate(size);
        let hash = ContentHash::sha1_of(&bytes);
        let path = self.path(&hash, kind);
        if !path.exists() {
            write_whole(&path, &bytes)?;
        }
        Ok(Stored { hash, raw_size: content.len() as u64 })
    }

    /// Stores many contents with all processors. `feed` passes each with a key; the result keeps their order.
    pub(super) fn put_many<K: Send>(
        &self,
        feed: impl FnOnce(&mut dyn FnMut(K, ObjectKind, Vec<u8>) -> Result<()>) -> Result<()>,
    ) -> Result<Vec<(K, Stored)>> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let (sender, receiver) = sync_channel::<(usize, K, ObjectKind, Vec<u8>)>(WAITING);
        // Workers share the receiver, so that the sender notices when all of them have failed.
        let receiver = Arc::new(Mutex::new(receiver));
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    let (receiver, results) = (Arc::clone(&receiver), &results);
                    scope.spawn(move || -> Result<()> {
                        loop {
                            let next = receiver.lock().map_err(|_| anyhow!("another worker panicked"))?.recv();
                            let Ok((number, key, kind, content)) = next else { return Ok(()) };
                            let stored = self.put(&content, kind)?;
                            results.lock().map_err(|_| anyhow!("another worker panicked"))?.push((number, key, stored));
                        }
                    })
                })
                .collect();
            drop(receiver);
            let mut number = 0;
            let fed = feed(&mut |key, kind, content| {
                number += 1;
                sender.send((number, key, kind, content)).map_err(|_| anyhow!("no worker is left to store objects"))
            });
            drop(sender);
            for worker in workers {
                // A worker's own error is more specific.
                worker.join().map_err(|_| anyhow!("a worker panicked"))??;
            }
            fed
        })?;
        let mut results = results.into_inner().map_err(|_| anyhow!("a worker panicked"))?;
        results.sort_by_key(|(number, ..)| *number);
        Ok(results.into_iter().map(|(_, key, stored)| (key, stored)).collect())
    }

    /// Replaces a file in the root of the repository's URL.
    pub(super) fn write_root_file(&self, name: &str, content: &[u8]) -> Result<()> {
        write_whole(&self.web_root.join(name), content)
    }

    pub(super) fn corrupt(&self, hash: &ContentHash, kind: ObjectKind) -> Result<()> {
        let path = self.path(hash, kind);
        let mut bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let middle = bytes.len() / 2;
        let byte = bytes.get_mut(middle).with_context(|| format!("{} is empty", path.display()))?;
        *byte ^= 0xff;
        write_whole(&path, &bytes)
    }
}

/// Writes a file atomically.
fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let directory = path.parent().with_context(|| format!("{} has no directory", path.display()))?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    std::io::Write::write_all(&mut file, content)?;
    // The web server may run as another user.
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
