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
//! The envelopes are those of [`bundles::codec`], with a version and a checksum. A record that is damaged or newer than this
//! program is reported and left as it is.
//!
//! # Invariants
//!
//! Every change is one synchronous batch, written before it is applied in memory and before containerd gets its answer.
//! A directory below the root exists before the record that names it and is deleted after it: a crash leaves directories
//! without records, never records without directories.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundles::codec::{Format, FormatError};
use bundles::image::Digest;
use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, IteratorMode, Options, WriteBatch, WriteOptions};

use super::Snapshot;
use super::state::{Change, State};
use crate::whiteouts::LayerScan;

/// Increased with every change of the layout. A program refuses a database with a higher number.
pub const SCHEMA: u32 = 1;

const SCHEMA_KEY: &[u8] = b"schema";
const NEXT_ID_KEY: &[u8] = b"next_id";
const SNAPSHOTS: &str = "snapshots";
const LAYERS: &str = "layers";
/// Envelope of a snapshot. A change of [`Snapshot`] or the types in it needs a new version.
const SNAPSHOT: Format = Format { name: "record of a snapshot", magic: *b"CPSN", major: 1, minor: 0 };
/// Envelope of the scan of a published layer. A change of [`LayerScan`] or the types in it needs a new version.
const LAYER: Format = Format { name: "record of a published layer", magic: *b"CPSL", major: 1, minor: 0 };

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed.
    #[error("{0}")]
    RocksDb(#[from] rocksdb::Error),
    /// A record cannot be read or written. It is left as it is.
    #[error(
        "{key:?}: {source} (nothing was changed; restore the root from a backup, or remove it while containerd is stopped \
         and pull the images again)"
    )]
    Record {
        /// Key of the record.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
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
    /// Whether a record is damaged, not only newer than this program.
    pub fn is_damaged_record(&self) -> bool {
        matches!(self, Self::Record { source, .. } if !matches!(source, FormatError::Newer { .. }))
    }

    fn record(key: &str) -> impl FnOnce(FormatError) -> Self {
        move |source| Self::Record { key: key.to_owned(), source }
    }
}

/// All snapshots, in memory and on disk.
#[derive(Debug)]
pub struct Store {
    db: DB,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    state: State,
    next_id: u64,
    /// Ids of directories that are being made and have no record yet.
    reserved: HashSet<u64>,
}

impl Store {
    /// Opens or creates the database at `path`. Only one process can open it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(2);
        let db = DB::open_cf(&options, path, [SNAPSHOTS, LAYERS])?;
        check_schema(&db, path)?;
        let next_id = db.get(NEXT_ID_KEY)?.map(|bytes| number(NEXT_ID_KEY, &bytes)).transpose()?;
        let mut memory = Memory { next_id: next_id.map_or(1, u64::from_le_bytes), ..Memory::default() };
        for item in db.iterator_cf(family(&db, SNAPSHOTS)?, IteratorMode::Start) {
            let (key, value) = item?;
            let name = String::from_utf8_lossy(&key).into_owned();
            let snapshot: Snapshot = SNAPSHOT.open(&value).map_err(StoreError::record(&name))?;
            memory.state.apply(Change { remove: None, put: Some((name, snapshot)) });
        }
        Ok(Self { db, memory: Mutex::new(memory) })
    }

    /// Reads the state. Everything that `read` sees belongs to one moment.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.memory.lock().state)
    }

    /// Makes a change: decides on it by the state, writes it to disk and applies it, in one step for all callers.
    pub fn update<T, E: From<StoreError>>(
        &self,
        decide: impl FnOnce(&State) -> Result<(Change, T), E>,
    ) -> Result<T, E> {
        let mut memory = self.memory.lock();
        let (change, result) = decide(&memory.state)?;
        self.write(&change, memory.next_id)?;
        memory.state.apply(change);
        Ok(result)
    }

    fn write(&self, change: &Change, next_id: u64) -> Result<(), StoreError> {
        let family = family(&self.db, SNAPSHOTS)?;
        let mut batch = WriteBatch::default();
        batch.put(NEXT_ID_KEY, next_id.to_le_bytes());
        if let Some(name) = &change.remove {
            batch.delete_cf(family, name);
        }
        if let Some((name, snapshot)) = &change.put {
            batch.put_cf(family, name, SNAPSHOT.seal(snapshot).map_err(StoreError::record(name))?);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.db.write_opt(batch, &options)?)
    }

    /// Reserves an id for a new snapshot. Until the reservation is dropped, the id counts as used, so a clean-up leaves its
    /// directory alone.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        let mut memory = self.memory.lock();
        let id = memory.next_id;
        memory.next_id += 1;
        memory.reserved.insert(id);
        Reservation { store: Arc::clone(self), id }
    }

    /// The ids of all snapshots and reservations. A directory that existed before this call and has another id is left
    /// over.
    pub fn used_ids(&self) -> HashSet<u64> {
        let memory = self.memory.lock();
        memory.state.iter().map(|(_, snapshot)| snapshot.id).chain(memory.reserved.iter().copied()).collect()
    }

    /// The scan of a published layer, if there was one.
    pub fn layer_scan(&self, repository: &str, digest: &Digest) -> Result<Option<LayerScan>, StoreError> {
        let key = layer_key(repository, digest);
        match self.db.get_cf(family(&self.db, LAYERS)?, &key)? {
            Some(bytes) => LAYER.open(&bytes).map(Some).map_err(StoreError::record(&key)),
            None => Ok(None),
        }
    }

    /// Keeps the scan of a published layer. It stays valid: a layer is named by its digest and never changes.
    pub fn put_layer_scan(&self, repository: &str, digest: &Digest, scan: &LayerScan) -> Result<(), StoreError> {
        let key = layer_key(repository, digest);
        let record = LAYER.seal(scan).map_err(StoreError::record(&key))?;
        Ok(self.db.put_cf(family(&self.db, LAYERS)?, &key, record)?)
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
        self.store.memory.lock().reserved.remove(&self.id);
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

fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Damaged(format!("the column family {name} is missing")))
}

fn layer_key(repository: &str, digest: &Digest) -> String {
    format!("{repository}/{}", digest.hex())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshots::state::NewSnapshot;
    use crate::snapshots::{Content, Kind};
    use std::time::SystemTime;

    fn add(store: &Arc<Store>, key: &str) -> u64 {
        let reservation = store.reserve();
        let new = NewSnapshot {
            id: reservation.id(),
            kind: Kind::Active,
            parent: None,
            labels: [("label".to_owned(), "välue".to_owned())].into(),
            content: Content::Local,
            now: SystemTime::now(),
        };
        store.update(|state| Ok::<_, StoreError>((state.create(key, new).unwrap(), ()))).unwrap();
        reservation.id()
    }

    #[test]
    fn acknowledged_changes_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        add(&store, "a");
        let last = add(&store, "b");
        let before = store.read(|state| state.get("a").unwrap().clone());
        store.update(|state| Ok::<_, StoreError>((state.remove("b").unwrap().0, ()))).unwrap();
        drop(store);
        let store = Arc::new(Store::open(directory.path()).unwrap());
        assert_eq!(store.read(|state| state.get("a").unwrap().clone()), before);
        assert!(store.read(|state| state.get("b").is_err()));
        assert!(add(&store, "c") > last);
    }

    #[test]
    fn a_reserved_id_counts_as_used() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let reservation = store.reserve();
        let id = reservation.id();
        assert!(store.used_ids().contains(&id));
        drop(reservation);
        assert!(!store.used_ids().contains(&id));
        let id = add(&store, "a");
        assert!(store.used_ids().contains(&id));
    }

    /// Opens a database with this record of the snapshot "a", and checks that the record is still there afterwards.
    fn open_with(record: &[u8]) -> Result<Store, StoreError> {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        store.db.put_cf(family(&store.db, SNAPSHOTS).unwrap(), "a", record).unwrap();
        drop(store);
        let opened = Store::open(directory.path());
        if opened.is_err() {
            let db = DB::open_cf(&Options::default(), directory.path(), [SNAPSHOTS, LAYERS]).unwrap();
            assert_eq!(db.get_cf(family(&db, SNAPSHOTS).unwrap(), "a").unwrap().unwrap(), record);
        }
        opened
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            id: 1,
            kind: Kind::Active,
            parent: None,
            labels: [("label".to_owned(), "value".to_owned())].into(),
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
            usage: Default::default(),
            content: Content::Local,
        }
    }

    #[test]
    fn a_damaged_or_newer_record_is_refused_and_kept() {
        let record = SNAPSHOT.seal(&snapshot()).unwrap();
        assert_eq!(open_with(&record).unwrap().read(|state| state.get("a").unwrap().clone()), snapshot());
        // A byte of the magic, the version, the size, the payload and the checksum.
        for at in [0, 4, 8, 20, record.len() - 1] {
            let mut damaged = record.clone();
            damaged[at] ^= 0x55;
            let error = open_with(&damaged).unwrap_err();
            assert!(matches!(&error, StoreError::Record { key, .. } if key == "a"), "byte {at}: {error}");
            assert_eq!(error.is_damaged_record(), at != 4, "byte {at}: {error}");
        }
        let newer = Format { major: SNAPSHOT.major + 1, ..SNAPSHOT }.seal(&snapshot()).unwrap();
        let error = open_with(&newer).unwrap_err();
        assert!(!error.is_damaged_record() && error.to_string().contains("upgrade"), "{error}");
        let other_kind = LAYER.seal(&snapshot()).unwrap();
        assert!(open_with(&other_kind).unwrap_err().is_damaged_record());
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.db.put(SCHEMA_KEY, (SCHEMA + 1).to_le_bytes()).unwrap();
        drop(store);
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("upgrade"), "{error}");
    }
}
