//! The database of snapshots: a RocksDB below the root, with all snapshots in memory as well.
//!
//! # Layout
//!
//! | Column family | Key | Value |
//! |--|--|--|
//! | default | `schema` | u32, little endian: [`SCHEMA`] |
//! | default | `next_id` | u64, little endian: this id and higher ones were never given to a snapshot |
//! | `snapshots` | name | [`Snapshot`] in the envelope [`SNAPSHOT`] |
//! | `layers` | `<repository>/<digest>` | [`LayerScan`], the owner and the whiteouts of a published layer, in the envelope [`LAYER`] |
//!
//! The envelopes are those of [`bundles::codec`], with a version and a checksum. A newer version of a snapshot's record comes with a newer
//! schema, which a program refuses. So a record that cannot be read is damaged. It is reported and left out: that snapshot does not exist
//! until it is removed or replaced. The record of a layer is made anew.
//!
//! # Invariants
//!
//! Every change is one synchronous batch, written before it is applied in memory and before containerd gets its answer. Reading never
//! waits for the disk: changes take turns, and hold the lock of the memory only to decide and to apply.
//! After a failed write, nobody knows whether it is on disk. The next change first opens the database again and writes what is in memory.
//! A directory below the root exists before the record that names it and is deleted after it: a crash leaves directories
//! without records, never records without directories.

mod database;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::state::{Change, State};
use crate::whiteouts::LayerScan;

use bundles::codec::{Format, FormatError};
use bundles::image::Digest;
use database::{Database, family};
use parking_lot::{Mutex, RwLock};
use rocksdb::{ColumnFamily, DB, IteratorMode, WriteBatch, WriteOptions};

/// Increased with every change of the layout. A program refuses a database with a higher number.
pub const SCHEMA: u32 = 1;

const SCHEMA_KEY: &[u8] = b"schema";
const NEXT_ID_KEY: &[u8] = b"next_id";
const SNAPSHOTS: &str = "snapshots";
const LAYERS: &str = "layers";
/// Envelope of a snapshot. A change of [`Snapshot`] or the types in it needs a new version.
const SNAPSHOT: Format = Format { name: "record of a snapshot", magic: *b"CPSN", major: 1, minor: 0 };
/// Envelope of the scan of a published layer. A change of [`LayerScan`] or the types in it needs a new version.
const LAYER: Format = Format { name: "record of a published layer", magic: *b"CPSL", major: 2, minor: 0 };

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed.
    #[error("{0}")]
    RocksDb(#[from] rocksdb::Error),
    /// A record cannot be read or written. It is left as it is.
    #[error("{key:?}: {source} (nothing was changed)")]
    Record {
        /// Key of the record.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// It cannot be opened again after an error.
    #[error("the database is closed after an error; the next change of a snapshot opens it again")]
    Closed,
    /// A number has a wrong size, or a column family is missing.
    #[error("the database is damaged: {0}; restore the root from a backup, or configure another `root`")]
    Damaged(String),
    /// A newer version of this program wrote the database.
    #[error(
        "the database {path} has schema {found}, this program reads up to {SCHEMA}: upgrade cvmfs-prefetch-snapshotter, \
         or configure another `root`"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Schema of the database.
        found: u32,
    },
}

impl StoreError {
    fn record(key: &str) -> impl FnOnce(FormatError) -> Self {
        move |source| Self::Record { key: key.to_owned(), source }
    }
}

/// All snapshots, in memory and on disk.
#[derive(Debug)]
pub struct Store {
    db: Database,
    memory: RwLock<Memory>,
    /// Held by a change from its decision until it is applied. Taken before `memory`. The names of the snapshots whose records may
    /// differ from the memory, because a write failed.
    change: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Memory {
    state: State,
    next_id: u64,
    /// Ids of directories that are being made and have no record yet.
    reserved: HashSet<u64>,
    /// Names of snapshots whose records are damaged. Nobody knows which directories are theirs.
    damaged: BTreeSet<String>,
}

impl Memory {
    fn read(db: &DB) -> Result<Self, StoreError> {
        let next_id = db.get(NEXT_ID_KEY)?.map(|bytes| number(NEXT_ID_KEY, &bytes)).transpose()?;
        let mut memory = Self { next_id: next_id.map_or(1, u64::from_le_bytes), ..Self::default() };
        for item in db.iterator_cf(family(db, SNAPSHOTS)?, IteratorMode::Start) {
            let (key, value) = item?;
            let name = String::from_utf8_lossy(&key).into_owned();
            match SNAPSHOT.open(&value).map_err(StoreError::record(&name)) {
                Ok(snapshot) => memory.state.apply(Change { remove: None, put: Some((name, snapshot)) }),
                Err(error) => {
                    tracing::error!(
                        %error,
                        "a snapshot is left out; remove its containers and its image, and pull the image again. No directory \
                         below the root is cleaned up until then"
                    );
                    memory.damaged.insert(name);
                }
            }
        }
        Ok(memory)
    }
}

impl Store {
    /// Opens or creates the database at `path`. Only one process can open it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = Database::open(path)?;
        let memory = db.with(|db| {
            check_schema(db, path)?;
            Memory::read(db)
        })?;
        let store = Self { db, memory: RwLock::new(memory), change: Mutex::new(BTreeSet::new()) };
        store.forget_unused_layers()?;
        Ok(store)
    }

    /// Reads the state. Everything that `read` sees belongs to one moment.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.memory.read().state)
    }

    /// The names of the snapshots whose records are damaged.
    pub fn damaged(&self) -> Vec<String> {
        self.memory.read().damaged.iter().cloned().collect()
    }

    /// Deletes the damaged record of the snapshot `name`. Returns whether there was one.
    pub fn forget_damaged(&self, name: &str) -> Result<bool, StoreError> {
        let mut uncertain = self.change.lock();
        if !self.memory.read().damaged.contains(name) {
            return Ok(false);
        }
        self.write(&Change { remove: Some(name.to_owned()), put: None }, &mut uncertain)?;
        self.memory.write().damaged.remove(name);
        Ok(true)
    }

    /// Makes a change: decides on it by the state, writes it to disk and applies it, in one step for all callers.
    pub fn update<T, E: From<StoreError>>(
        &self,
        decide: impl FnOnce(&State) -> Result<(Change, T), E>,
    ) -> Result<T, E> {
        let mut uncertain = self.change.lock();
        let (change, result) = decide(&self.memory.read().state)?;
        self.write(&change, &mut uncertain)?;
        let mut memory = self.memory.write();
        if let Some((name, _)) = &change.put {
            memory.damaged.remove(name);
        }
        memory.state.apply(change);
        Ok(result)
    }

    /// Writes a change to disk. If that fails, the names in it become uncertain.
    fn write(&self, change: &Change, uncertain: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let names = change.remove.iter().chain(change.put.iter().map(|(name, _)| name));
        if !uncertain.is_empty() {
            self.recover(uncertain)?;
        }
        let next_id = self.memory.read().next_id;
        let written = self.write_batch(next_id, |batch, family| {
            if let Some(name) = &change.remove {
                batch.delete_cf(family, name);
            }
            if let Some((name, snapshot)) = &change.put {
                batch.put_cf(family, name, SNAPSHOT.seal(snapshot).map_err(StoreError::record(name))?);
            }
            Ok(())
        });
        if written.is_err() {
            uncertain.extend(names.cloned());
        }
        written
    }

    /// Opens the database again after a failed write, and makes the records of the `uncertain` snapshots what they are in memory.
    fn recover(&self, uncertain: &mut BTreeSet<String>) -> Result<(), StoreError> {
        self.db.reopen()?;
        let memory = self.memory.read();
        self.write_batch(memory.next_id, |batch, family| {
            for name in uncertain.iter().filter(|name| !memory.damaged.contains(*name)) {
                match memory.state.get(name) {
                    Ok(snapshot) => {
                        batch.put_cf(family, name, SNAPSHOT.seal(snapshot).map_err(StoreError::record(name))?)
                    }
                    Err(_) => batch.delete_cf(family, name),
                }
            }
            Ok(())
        })?;
        tracing::info!("the database was opened again after a failed write");
        uncertain.clear();
        Ok(())
    }

    fn write_batch(
        &self,
        next_id: u64,
        fill: impl FnOnce(&mut WriteBatch, &ColumnFamily) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.db.with(|db| {
            let mut batch = WriteBatch::default();
            batch.put(NEXT_ID_KEY, next_id.to_le_bytes());
            fill(&mut batch, family(db, SNAPSHOTS)?)?;
            let mut options = WriteOptions::default();
            options.set_sync(true);
            Ok(db.write_opt(batch, &options)?)
        })
    }

    /// Reserves an id for a new snapshot. Until the reservation is dropped, the id counts as used, so a clean-up leaves its
    /// directory alone.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        let mut memory = self.memory.write();
        let id = memory.next_id;
        memory.next_id += 1;
        memory.reserved.insert(id);
        Reservation { store: Arc::clone(self), id }
    }

    /// The ids of all snapshots and reservations. A directory that existed before this call and has another id is left
    /// over.
    pub fn used_ids(&self) -> HashSet<u64> {
        let memory = self.memory.read();
        memory.state.iter().map(|(_, snapshot)| snapshot.id).chain(memory.reserved.iter().copied()).collect()
    }

    /// The scan of a published layer, if there was one.
    pub fn layer_scan(&self, repository: &str, digest: &Digest) -> Result<Option<LayerScan>, StoreError> {
        let key = layer_key(repository, digest);
        match self.db.with(|db| Ok(db.get_cf(family(db, LAYERS)?, &key)?))? {
            Some(bytes) => LAYER.open(&bytes).map(Some).map_err(StoreError::record(&key)),
            None => Ok(None),
        }
    }

    /// Keeps the scan of a published layer.
    pub fn put_layer_scan(&self, repository: &str, digest: &Digest, scan: &LayerScan) -> Result<(), StoreError> {
        let key = layer_key(repository, digest);
        let record = LAYER.seal(scan).map_err(StoreError::record(&key))?;
        self.db.with(|db| Ok(db.put_cf(family(db, LAYERS)?, &key, record)?))
    }

    /// The layers of a repository whose whiteouts are only what a bundle lists.
    pub fn unconfirmed_layers(&self, repository: &str) -> Vec<Digest> {
        let mut layers = self.read(|state| {
            let own = state.layers().filter(|(name, _)| *name == repository);
            own.map(|(_, digest)| *digest).collect::<Vec<_>>()
        });
        layers.sort_unstable();
        layers.dedup();
        // A record that cannot be read is made anew at the next pull.
        let is_unconfirmed = |digest: &Digest| {
            self.layer_scan(repository, digest).is_ok_and(|scan| scan.is_some_and(|scan| scan.is_from_bundle))
        };
        layers.retain(is_unconfirmed);
        layers
    }

    /// Forgets the scan of a layer that no snapshot has any more, so that what a repository or a bundle states about it is read anew at
    /// the next pull.
    pub fn forget_unused_layer(&self, repository: &str, digest: &Digest) -> Result<(), StoreError> {
        let is_used = self.read(|state| state.layers().any(|used| used == (repository, digest)));
        if is_used {
            return Ok(());
        }
        self.db.with(|db| Ok(db.delete_cf(family(db, LAYERS)?, layer_key(repository, digest))?))
    }

    fn forget_unused_layers(&self) -> Result<(), StoreError> {
        let used: HashSet<String> =
            self.read(|state| state.layers().map(|(repository, digest)| layer_key(repository, digest)).collect());
        self.db.with(|db| {
            let family = family(db, LAYERS)?;
            for item in db.iterator_cf(family, IteratorMode::Start) {
                let (key, _) = item?;
                if !used.contains(&*String::from_utf8_lossy(&key)) {
                    db.delete_cf(family, key)?;
                }
            }
            Ok(())
        })
    }
}

/// An id whose snapshot is being made. Dropping it ends the protection of the directory.
#[derive(Debug)]
pub struct Reservation {
    store: Arc<Store>,
    id: u64,
}

impl Reservation {
    /// The reserved id.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.store.memory.write().reserved.remove(&self.id);
    }
}

fn check_schema(db: &DB, path: &Path) -> Result<(), StoreError> {
    match db.get(SCHEMA_KEY)? {
        None => Ok(db.put(SCHEMA_KEY, SCHEMA.to_le_bytes())?),
        Some(bytes) => {
            let found = u32::from_le_bytes(number(SCHEMA_KEY, &bytes)?);
            if found > SCHEMA { Err(StoreError::Newer { path: path.into(), found }) } else { Ok(()) }
        }
    }
}

fn number<const N: usize>(key: &[u8], bytes: &[u8]) -> Result<[u8; N], StoreError> {
    let damaged = |_| {
        let key = String::from_utf8_lossy(key);
        StoreError::Damaged(format!("{key} has {} bytes, expected {N}", bytes.len()))
    };
    bytes.try_into().map_err(damaged)
}

fn layer_key(repository: &str, digest: &Digest) -> String {
    format!("{repository}/{}", digest.hex())
}

#[cfg(test)]
mod as_root;

#[cfg(test)]
mod tests;
