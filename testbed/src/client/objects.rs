//! Objects: from the cache or else from the server, verified; at most one download of each at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use bundles::object::{self, ContentHash, ObjectKind};

use super::cache::Cache;
use super::download::Downloader;

/// The largest catalog or certificate that is accepted, decompressed. Their sizes are not always known beforehand.
const LIMIT: u64 = 1 << 30;

/// What is known of an object before it is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) hash: ContentHash,
    pub(super) kind: ObjectKind,
    /// Size of the content, where known.
    pub(super) size: Option<u64>,
    /// Whether the stored form is a zlib stream; else it is the content.
    pub(super) compressed: bool,
}

impl Object {
    /// A compressed object whose size is not known beforehand.
    pub(super) fn of_unknown_size(hash: ContentHash, kind: ObjectKind) -> Self {
        Self { hash, kind, size: None, compressed: true }
    }
}

#[derive(Debug)]
pub(super) struct Objects {
    pub(super) cache: Cache,
    pub(super) downloader: Downloader,
    flights: Mutex<HashMap<ContentHash, Arc<Flight>>>,
}

/// A download that others may wait for.
#[derive(Debug, Default)]
struct Flight {
    /// The failure as text, because every waiting caller gets it.
    result: Mutex<Option<Result<(), String>>>,
    landed: Condvar,
}

impl Objects {
    pub(super) fn new(cache: Cache, downloader: Downloader) -> Self {
        Self { cache, downloader, flights: Mutex::default() }
    }

    /// The content of `object`. Checks the cache every time, so objects put there by others need no request.
    pub(super) fn open(&self, object: &Object) -> Result<File> {
        if let Some(file) = self.cache.get(&object.hash)? {
            self.downloader.counters.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(file);
        }
        self.downloader.counters.misses.fetch_add(1, Ordering::Relaxed);
        self.fetch_once(object)?;
        let file = self.cache.get(&object.hash)?;
        file.with_context(|| format!("object {} has left the cache as soon as it was there", object.hash))
    }

    /// The path at which the content of `object` is, for readers that want a path.
    pub(super) fn path(&self, object: &Object) -> Result<PathBuf> {
        self.open(object)?;
        Ok(self.cache.path(&object.hash))
    }

    fn fetch_once(&self, object: &Object) -> Result<()> {
        let (flight, leads) = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&object.hash) {
                Some(flight) => (Arc::clone(flight), false),
                None => {
                    let flight = Arc::new(Flight::default());
                    flights.insert(object.hash, Arc::clone(&flight));
                    (flight, true)
                }
            }
        };
        if leads {
            // An earlier download may have finished since the caller checked.
            let result = match self.cache.get(&object.hash) {
                Ok(Some(_)) => Ok(()),
                _ => self.fetch(object),
            };
            self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&object.hash);
            let outcome = result.as_ref().copied().map_err(|error| format!("{error:#}"));
            *flight.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            flight.landed.notify_all();
            return result;
        }
        let mut result = flight.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*result {
                Some(outcome) => return outcome.clone().map_err(|error| anyhow!(error)),
                None => result = flight.landed.wait(result).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn fetch(&self, object: &Object) -> Result<()> {
        let stored = self.downloader.get(&object.hash.url_path(object.kind))?;
        let content = unpack(object, &stored).inspect_err(|_| {
            self.downloader.counters.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        self.cache.put(&object.hash, &content).with_context(|| format!("cannot store object {}", object.hash))
    }
}

/// Verifies `stored` and returns its content.
fn unpack(object: &Object, stored: &[u8]) -> Result<Vec<u8>> {
    let hash = &object.hash;
    match (object.compressed, object.size) {
        (true, Some(size)) => Ok(object::unpack(hash, stored, size)?),
        (true, None) => {
            object::verify(hash, stored)?;
            let mut content = Vec::new();
            let decoder = flate2::read::ZlibDecoder::new(stored).take(LIMIT + 1).read_to_end(&mut content);
            decoder.with_context(|| format!("object {hash} is no zlib stream"))?;
            ensure!(content.len() as u64 <= LIMIT, "object {hash} holds more than {LIMIT} bytes");
            Ok(content)
        }
        (false, size) => {
            object::verify(hash, stored)?;
            let found = stored.len() as u64;
            ensure!(size.is_none_or(|size| size == found), "object {hash} holds {found} bytes instead of {size:?}");
            Ok(stored.to_vec())
        }
    }
}
