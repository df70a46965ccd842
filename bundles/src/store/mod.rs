//! The bundles of a node, in RocksDB. See `docs/src/store.md`.
//!
//! ```text
//! column family   key                       value
//! default         "schema"                  version of this layout, u32 little endian
//! bundles         chain ID, 32 bytes        the bundle file, as [`crate::codec`] seals it
//! manifests       manifest digest, 32 bytes chain ID, 32 bytes
//! facts           chain ID, 32 bytes        size, last use, and where the bundle came from: [`Facts`]
//! places          chain ID, 32 bytes        where the repository has its packs: [`crate::pack::PackPlace`]
//! ```
//!
//! Invariants: what belongs to one bundle is written and removed in one batch; every acknowledged change is synced, so
//! that it survives a power cut. The exceptions are the time of the last use and the
//! places of packs, whose loss does no harm. One process
//! writes a store at a time (RocksDB's lock, told as [`StoreError::InUse`]); others read it meanwhile, as a [`View`].

mod error;
mod facts;
mod layout;
mod limit;
mod migrate;
#[cfg(test)]
mod tests;
mod view;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rocksdb::{Options, WriteBatch, WriteOptions};
use tracing::{debug, info, warn};

pub use error::StoreError;
pub use facts::{Facts, Origin};
pub use view::{Stored, View};

use crate::bundle::Bundle;
use crate::image::{ChainId, Digest, ImageId};
use crate::pack::{PackPlace, encode_places};
use layout::{BUNDLES, FACTS, MANIFESTS, PLACES};

/// How many bytes of bundles a node keeps unless it is told otherwise.
pub const DEFAULT_LIMIT: u64 = 256 << 20;

/// A node's bundles, to be read and changed.
#[derive(Debug)]
pub struct Store {
    view: View,
    limit: u64,
    /// Held by whoever reads something to write it changed.
    changing: Mutex<()>,
}

/// What [`Store::list`] found.
#[derive(Debug)]
pub struct Listed<T> {
    /// What was made of each bundle, in order of the chain IDs.
    pub bundles: Vec<T>,
    /// How many were damaged, and have been removed.
    pub damaged: usize,
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bundles.
    pub bundles: u64,
    /// Bytes of these, as files.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in `path`, making it if it is not there, and bringing an older layout up to date. It will keep
    /// bundles of `limit` bytes together.
    pub fn open(path: &Path, limit: u64) -> Result<Self, StoreError> {
        Self::open_with(&layout::options(), path, limit)
    }

    fn open_with(options: &Options, path: &Path, limit: u64) -> Result<Self, StoreError> {
        let found = layout::schema(path)?;
        let database = layout::open(options, path)?;
        migrate::migrate(&database, path, found)?;
        Ok(Self { view: View::of(database, path), limit, changing: Mutex::default() })
    }

    /// Keeps `bundle`, in place of an older one of the same image. `origin` says which file it was read from. If the
    /// store is then over its limit, the bundles go that were not used for longest, but never this one.
    pub fn put(&self, bundle: &Bundle, origin: Option<Origin>) -> Result<(), StoreError> {
        let chain = bundle.image.chain_id;
        let bytes = bundle.to_bytes().map_err(|source| self.view.damaged(chain, source))?;
        let now = SystemTime::now();
        let facts = Facts { size: bytes.len() as u64, used: now, origin };
        let changing = self.change();
        let all = self.view.facts()?;
        let victims = limit::victims(&all, (chain, facts.size), self.limit, now);
        let mut batch = WriteBatch::default();
        self.add_removal(&mut batch, &victims)?;
        batch.put_cf(self.view.family(BUNDLES), chain.0.as_bytes(), bytes);
        batch.put_cf(self.view.family(FACTS), chain.0.as_bytes(), facts.to_bytes());
        batch.delete_cf(self.view.family(PLACES), chain.0.as_bytes());
        if let Some(manifest) = &bundle.image.manifest {
            batch.put_cf(self.view.family(MANIFESTS), manifest.as_bytes(), chain.0.as_bytes());
        }
        self.write(batch)?;
        drop(changing);
        if !victims.is_empty() {
            info!(removed = victims.len(), limit = self.limit, "bundles not used for longest removed from the store");
        }
        self.give_back(&victims);
        Ok(())
    }

    /// The bundle of an image by its identity, which counts as a use of it. A damaged one is removed, and is an error
    /// this once.
    pub fn by_chain(&self, chain: &ChainId) -> Result<Option<Stored>, StoreError> {
        let found = self.view.by_chain(chain);
        match &found {
            // The time of the last use is not worth a bundle that is there.
            Ok(Some(_)) => {
                self.touch(chain).unwrap_or_else(|error| debug!(%chain, %error, "use of a bundle not noted"));
            }
            Ok(None) => {}
            Err(StoreError::Bundle { chain, .. }) => _ = self.remove_damaged(&[*chain])?,
            Err(_) => {}
        }
        found
    }

    /// The bundle of an image by its manifest; for the rest as [`Store::by_chain`].
    pub fn by_manifest(&self, manifest: &Digest) -> Result<Option<Stored>, StoreError> {
        self.view.chain_of(manifest)?.map_or(Ok(None), |chain| self.by_chain(&chain))
    }

    /// Keeps where the packs of a stored bundle are.
    pub fn put_places(&self, chain: &ChainId, places: &[(Digest, PackPlace)]) -> Result<(), StoreError> {
        let bytes = encode_places(places).map_err(|source| self.view.damaged(*chain, source))?;
        let _changing = self.change();
        if !self.view.has(chain)? {
            return Ok(());
        }
        let family = self.view.family(PLACES);
        self.view.database.put_cf(family, chain.0.as_bytes(), bytes).map_err(|e| self.view.failed(e))
    }

    /// What `of` makes of each bundle; they are read one at a time. Damaged ones are removed and counted.
    pub fn list<T>(&self, mut of: impl FnMut(&Stored) -> T) -> Result<Listed<T>, StoreError> {
        let (mut bundles, mut damaged) = (Vec::new(), Vec::new());
        self.view.each(|chain, found| match found {
            Ok(stored) => bundles.push(of(&stored)),
            Err(error) => {
                warn!(%chain, %error, "damaged bundle removed from the store");
                damaged.push(chain);
            }
        })?;
        let damaged = self.remove_damaged(&damaged)?;
        Ok(Listed { bundles, damaged })
    }

    /// How much is in it; reads no bundle.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let facts = self.view.facts()?;
        let bytes = facts.iter().fold(0, |sum: u64, (_, facts)| sum.saturating_add(facts.size));
        Ok(Usage { bundles: facts.len() as u64, bytes })
    }

    /// Forgets bundles; how many of them there were.
    pub fn remove(&self, chains: &[ChainId]) -> Result<usize, StoreError> {
        let changing = self.change();
        self.remove_now(changing, chains)
    }

    /// Forgets the bundles that `keep` does not want, by their image and last use, and the damaged ones; how many these
    /// were.
    pub fn retain(&self, mut keep: impl FnMut(&ImageId, SystemTime) -> bool) -> Result<usize, StoreError> {
        let changing = self.change();
        let mut unwanted = Vec::new();
        self.view.each(|chain, found| {
            if !found.is_ok_and(|stored| keep(&stored.bundle.image, stored.facts.used)) {
                unwanted.push(chain);
            }
        })?;
        self.remove_now(changing, &unwanted)
    }

    /// Forgets bundles that were seen to be damaged, unless a good one was put since.
    fn remove_damaged(&self, seen: &[ChainId]) -> Result<usize, StoreError> {
        let changing = self.change();
        let damaged = |chain: &&ChainId| matches!(self.view.by_chain(chain), Err(StoreError::Bundle { .. }));
        let chains: Vec<_> = seen.iter().filter(damaged).copied().collect();
        self.remove_now(changing, &chains)
    }

    fn remove_now(&self, changing: MutexGuard<'_, ()>, chains: &[ChainId]) -> Result<usize, StoreError> {
        let mut there = Vec::new();
        for chain in chains {
            if self.view.has(chain)? {
                there.push(*chain);
            }
        }
        if !there.is_empty() {
            let mut batch = WriteBatch::default();
            self.add_removal(&mut batch, &there)?;
            self.write(batch)?;
            drop(changing);
            self.give_back(&there);
        }
        Ok(there.len())
    }

    /// Notes that a bundle is used now. Not synced: after a power cut it only seems to have been used earlier.
    fn touch(&self, chain: &ChainId) -> Result<(), StoreError> {
        let _changing = self.change();
        let Some(facts) = self.view.facts_of(chain)? else { return Ok(()) };
        let used = Facts { used: SystemTime::now(), ..facts };
        let (key, value) = (chain.0.as_bytes(), used.to_bytes());
        self.view.database.put_cf(self.view.family(FACTS), key, value).map_err(|e| self.view.failed(e))
    }

    fn add_removal(&self, batch: &mut WriteBatch, chains: &[ChainId]) -> Result<(), StoreError> {
        if chains.is_empty() {
            return Ok(());
        }
        for chain in chains {
            batch.delete_cf(self.view.family(BUNDLES), chain.0.as_bytes());
            batch.delete_cf(self.view.family(FACTS), chain.0.as_bytes());
            batch.delete_cf(self.view.family(PLACES), chain.0.as_bytes());
        }
        for (manifest, chain) in self.view.manifests()? {
            if chains.contains(&chain) {
                batch.delete_cf(self.view.family(MANIFESTS), manifest.as_bytes());
            }
        }
        Ok(())
    }

    /// Rewrites the few files that have the removed bundles, for RocksDB would keep their bytes for long. Others may change
    /// the store meanwhile.
    fn give_back(&self, removed: &[ChainId]) {
        for chain in removed {
            let key = Some(chain.0.as_bytes());
            self.view.database.compact_range_cf(self.view.family(BUNDLES), key, key);
        }
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.view.database.write_opt(batch, &synced).map_err(|e| self.view.failed(e))
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
