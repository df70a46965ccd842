//! The bundles of a node, in RocksDB. See `docs/src/store.md`.
//!
//! # Layout
//!
//! ```text
//! column family   key                       value
//! default         "schema"                  version of this layout, u32 little endian
//! bundles         chain ID, 32 bytes        the bundle file, sealed by [`crate::codec`]
//! manifests       manifest digest, 32 bytes chain ID, 32 bytes
//! facts           chain ID, 32 bytes        size, last use, origin and what is wrong with the bundle: [`Facts`]
//! places          chain ID, 32 bytes        where the repository has its packs: [`crate::pack::PublishedPack`]
//! ```
//!
//! # Durability
//!
//! Everything that belongs to one bundle is written and removed in one batch. Every acknowledged change is synced, so that it
//! survives a power cut; exceptions are the time of the last use, beginning and end of a delivery, and the published packs, whose
//! loss is harmless.
//!
//! # Concurrency
//!
//! One process at a time writes a store (RocksDB's lock, reported as [`StoreError::InUse`]); others can read it as a [`View`].

mod error;
mod facts;
mod layout;
mod limit;
mod migrate;
#[cfg(test)]
mod tests;
mod view;

use std::path::Path;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use rocksdb::{Options, WriteBatch, WriteOptions};
use tracing::{debug, info, warn};

pub use error::StoreError;
pub use facts::{BAD_FOR, Bad, BadReason, Facts, Origin};
pub use view::{StoredBundle, StoredFile, View};

use crate::bundle::Bundle;
use crate::image::{ChainId, Digest, ImageId};
use crate::pack::{PublishedPack, encode_published_packs};
use layout::{BUNDLES, FACTS, MANIFESTS, PLACES};

/// Layout version that this program writes. A change needs a step in [`migrate`].
const SCHEMA: u32 = 4;

/// Default limit of the bundles' size in bytes.
pub const DEFAULT_LIMIT: u64 = 256 << 20;

/// A node's bundles, for reading and writing.
#[derive(Debug)]
pub struct Store {
    view: View,
    limit: u64,
    /// Held while something is read in order to change it.
    changing: Mutex<()>,
    /// The time of uses. Tests replace it, so that uses have distinct times.
    now: fn() -> SystemTime,
}

/// Result of [`Store::list`].
#[derive(Debug)]
pub struct Listed<T> {
    /// One result per bundle, in order of chain ID.
    pub bundles: Vec<T>,
    /// Number of damaged bundles, which were removed.
    pub damaged: usize,
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of bundles.
    pub bundles: u64,
    /// Size of the bundle files in bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in `path`. It is created if it does not exist, and migrated if its layout is older.
    /// The store will keep at most `limit` bytes of bundles.
    pub fn open(path: &Path, limit: u64) -> Result<Self, StoreError> {
        Self::open_with(&layout::options(), path, limit)
    }

    fn open_with(options: &Options, path: &Path, limit: u64) -> Result<Self, StoreError> {
        let found = layout::schema(path)?;
        let database = layout::open(options, path)?;
        migrate::migrate(&database, path, found)?;
        Ok(Self { view: View::new(database, path), limit, changing: Mutex::default(), now: SystemTime::now })
    }

    /// Stores `bundle` in place of an older one of the same image. `origin` is where it came from. If the store then exceeds its
    /// limit, the least recently used bundles are removed, but never this one.
    pub fn put(&self, bundle: &Bundle, origin: Option<Origin>) -> Result<Facts, StoreError> {
        let chain = bundle.image.chain_id;
        let file = bundle.to_bytes().map_err(|source| self.view.damaged(chain, source))?;
        self.put_file(&bundle.image, &file, origin)
    }

    /// Stores the bytes of a bundle file, as [`Store::put`] does. The caller has decoded them as a bundle of `image`.
    ///
    /// What is known of an earlier bundle of the same origin still holds, because it is the same bundle. Returns all that is known.
    pub fn put_file(&self, image: &ImageId, file: &[u8], origin: Option<Origin>) -> Result<Facts, StoreError> {
        let chain = image.chain_id;
        let now = (self.now)();
        let mut facts = Facts::new(file.len() as u64, now, origin);
        let changing = self.lock();
        if let Some(known) =
            self.view.facts_of(&chain)?.filter(|known| known.origin.is_some() && known.origin == facts.origin)
        {
            facts = Facts { bad: known.bad, under_way: known.under_way, deaths: known.deaths, ..facts };
        }
        let all = self.view.facts()?;
        let victims = limit::victims(&all, (chain, facts.size), self.limit, now);
        let mut batch = WriteBatch::default();
        self.add_removal(&mut batch, &victims)?;
        batch.put_cf(self.view.family(BUNDLES), chain.0.as_bytes(), file);
        batch.put_cf(self.view.family(FACTS), chain.0.as_bytes(), self.encoded(&chain, &facts)?);
        batch.delete_cf(self.view.family(PLACES), chain.0.as_bytes());
        if let Some(manifest) = &image.manifest {
            batch.put_cf(self.view.family(MANIFESTS), manifest.as_bytes(), chain.0.as_bytes());
        }
        self.write(batch)?;
        drop(changing);
        if !victims.is_empty() {
            info!(removed = victims.len(), limit = self.limit, "least recently used bundles removed from the store");
        }
        self.free_space(&victims);
        Ok(facts)
    }

    /// Records that a delivery of a stored bundle begins. A bundle becomes bad if the kernel killed the process for its memory during
    /// its last deliveries. `oom_kills` is the kernel's count of processes that it killed for memory, at the start of this process.
    /// Returns the facts, or `None` if the bundle is not stored.
    ///
    /// Of several deliveries at a time, only the first is recorded.
    pub fn begin_delivery(&self, chain: &ChainId, oom_kills: u64) -> Result<Option<Facts>, StoreError> {
        let now = (self.now)();
        self.change(chain, false, |facts| {
            // After a restart of the machine, the count begins anew.
            facts.deaths += u8::from(facts.under_way.is_some_and(|before| oom_kills > before));
            facts.under_way = None;
            if facts.deaths >= facts::MAX_DEATHS {
                facts.bad = Some(Bad { reason: BadReason::OutOfMemory, since: now });
                facts.deaths = 0;
            }
            if facts.bad_at(now).is_none() {
                facts.bad = None;
                facts.under_way = Some(oom_kills);
            }
        })
    }

    /// Records that a delivery of a stored bundle has ended, and what is wrong with the bundle.
    pub fn end_delivery(&self, chain: &ChainId, bad: Option<BadReason>) -> Result<(), StoreError> {
        let since = (self.now)();
        let change = |facts: &mut Facts| {
            facts.under_way = None;
            facts.deaths = 0;
            facts.bad = bad.map(|reason| Bad { reason, since }).or(facts.bad);
        };
        self.change(chain, bad.is_some(), change).map(drop)
    }

    /// Looks up the bundle of an image by chain ID. This counts as a use. A damaged bundle is an error once
    /// and is then removed.
    pub fn by_chain(&self, chain: &ChainId) -> Result<Option<StoredBundle>, StoreError> {
        let found = self.view.by_chain(chain);
        match &found {
            // A bundle is worth more than the time of its last use.
            Ok(Some(_)) => {
                self.touch(chain).unwrap_or_else(|error| debug!(%chain, %error, "cannot record the use of a bundle"));
            }
            Ok(None) => {}
            Err(StoreError::Bundle { chain, .. }) => _ = self.remove_damaged(&[*chain])?,
            Err(_) => {}
        }
        found
    }

    /// Looks up the file of the bundle of an image by chain ID, without decoding it. This counts as a use. Report damage to
    /// [`Store::remove_damaged_file`].
    pub fn file_by_chain(&self, chain: &ChainId) -> Result<Option<StoredFile>, StoreError> {
        let found = self.view.file_by_chain(chain)?;
        if found.is_some() {
            self.touch(chain).unwrap_or_else(|error| debug!(%chain, %error, "cannot record the use of a bundle"));
        }
        Ok(found)
    }

    /// The file of a stored bundle, without counting this as a use.
    pub fn file(&self, chain: &ChainId) -> Result<Option<StoredFile>, StoreError> {
        self.view.file_by_chain(chain)
    }

    /// What is known about a stored bundle.
    pub fn facts(&self, chain: &ChainId) -> Result<Option<Facts>, StoreError> {
        self.view.facts_of(chain)
    }

    /// Removes a bundle whose file was found damaged, unless it was replaced since. Returns whether it was removed.
    pub fn remove_damaged_file(&self, damaged: &StoredFile) -> Result<bool, StoreError> {
        let changing = self.lock();
        let is_same = self.view.file_by_chain(&damaged.chain)?.is_some_and(|found| found.file == damaged.file);
        Ok(is_same && self.remove_now(changing, &[damaged.chain])? > 0)
    }

    /// Looks up the file of the bundle of an image by manifest digest; otherwise as [`Store::file_by_chain`].
    pub fn file_by_manifest(&self, manifest: &Digest) -> Result<Option<StoredFile>, StoreError> {
        self.view.chain_of(manifest)?.map_or(Ok(None), |chain| self.file_by_chain(&chain))
    }

    /// The chain IDs of all stored bundles, in order.
    pub fn chains(&self) -> Result<Vec<ChainId>, StoreError> {
        Ok(self.view.facts()?.into_iter().map(|(chain, _)| chain).collect())
    }

    /// Looks up the bundle of an image by manifest digest; otherwise as [`Store::by_chain`].
    pub fn by_manifest(&self, manifest: &Digest) -> Result<Option<StoredBundle>, StoreError> {
        self.view.chain_of(manifest)?.map_or(Ok(None), |chain| self.by_chain(&chain))
    }

    /// Stores where the repository has the packs of a stored bundle.
    pub fn put_published_packs(&self, chain: &ChainId, places: &[(Digest, PublishedPack)]) -> Result<(), StoreError> {
        let bytes = encode_published_packs(places).map_err(|source| self.view.damaged(*chain, source))?;
        let _changing = self.lock();
        if !self.view.has(chain)? {
            return Ok(());
        }
        let family = self.view.family(PLACES);
        self.view.database.put_cf(family, chain.0.as_bytes(), bytes).map_err(|e| self.view.failed(e))
    }

    /// Applies `convert` to each bundle; only one bundle is in memory at a time. Damaged bundles are removed
    /// and counted.
    pub fn list<T>(&self, mut convert: impl FnMut(&StoredBundle) -> T) -> Result<Listed<T>, StoreError> {
        let mut bundles = Vec::new();
        let mut damaged = Vec::new();
        self.view.each(|chain, found| match found {
            Ok(stored) => bundles.push(convert(&stored)),
            Err(error) => {
                warn!(%chain, %error, "removing a damaged bundle from the store");
                damaged.push(chain);
            }
        })?;
        let damaged = self.remove_damaged(&damaged)?;
        Ok(Listed { bundles, damaged })
    }

    /// How much the store holds. No bundle is read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let facts = self.view.facts()?;
        let bytes = facts.iter().fold(0, |sum: u64, (_, facts)| sum.saturating_add(facts.size));
        Ok(Usage { bundles: facts.len() as u64, bytes })
    }

    /// Removes bundles and returns how many of them existed.
    pub fn remove(&self, chains: &[ChainId]) -> Result<usize, StoreError> {
        let changing = self.lock();
        self.remove_now(changing, chains)
    }

    /// Removes the bundles for which `keep` returns false, given image and last use, and all damaged ones.
    /// Returns how many were removed.
    pub fn retain(&self, mut keep: impl FnMut(&ImageId, SystemTime) -> bool) -> Result<usize, StoreError> {
        let changing = self.lock();
        let mut unwanted = Vec::new();
        self.view.each(|chain, found| {
            if !found.is_ok_and(|stored| keep(&stored.bundle.image, stored.facts.used)) {
                unwanted.push(chain);
            }
        })?;
        self.remove_now(changing, &unwanted)
    }

    /// Removes bundles that were found damaged, unless they were replaced since.
    fn remove_damaged(&self, seen: &[ChainId]) -> Result<usize, StoreError> {
        let changing = self.lock();
        let damaged = |chain: &&ChainId| matches!(self.view.by_chain(chain), Err(StoreError::Bundle { .. }));
        let chains: Vec<_> = seen.iter().filter(damaged).copied().collect();
        self.remove_now(changing, &chains)
    }

    fn remove_now(&self, changing: MutexGuard<'_, ()>, chains: &[ChainId]) -> Result<usize, StoreError> {
        let mut existing = Vec::new();
        for chain in chains {
            if self.view.has(chain)? {
                existing.push(*chain);
            }
        }
        if !existing.is_empty() {
            let mut batch = WriteBatch::default();
            self.add_removal(&mut batch, &existing)?;
            self.write(batch)?;
            drop(changing);
            self.free_space(&existing);
        }
        Ok(existing.len())
    }

    /// Records that a bundle is used now. Not synced: after a power cut the last use may only appear to be
    /// earlier.
    fn touch(&self, chain: &ChainId) -> Result<(), StoreError> {
        let now = (self.now)();
        self.change(chain, false, |facts| facts.used = now).map(drop)
    }

    /// Changes the facts about a stored bundle and returns them.
    fn change(
        &self,
        chain: &ChainId,
        synced: bool,
        change: impl FnOnce(&mut Facts),
    ) -> Result<Option<Facts>, StoreError> {
        let _changing = self.lock();
        let Some(mut facts) = self.view.facts_of(chain)? else { return Ok(None) };
        change(&mut facts);
        let mut batch = WriteBatch::default();
        batch.put_cf(self.view.family(FACTS), chain.0.as_bytes(), self.encoded(chain, &facts)?);
        match synced {
            true => self.write(batch)?,
            false => self.view.database.write(batch).map_err(|e| self.view.failed(e))?,
        }
        Ok(Some(facts))
    }

    fn encoded(&self, chain: &ChainId, facts: &Facts) -> Result<Vec<u8>, StoreError> {
        facts.to_bytes().map_err(|source| self.view.damaged(*chain, source))
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

    /// Rewrites the few files that contain the removed bundles, because RocksDB would keep their bytes for
    /// long. Others can change the store meanwhile.
    fn free_space(&self, removed: &[ChainId]) {
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

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }
}
