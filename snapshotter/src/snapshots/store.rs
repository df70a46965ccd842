//! The database of snapshots: a RocksDB below the root, with all snapshots in memory as well.
//!
//! # Layout
//!
//! | Column family | Key | Value |
//! |--|--|--|
//! | default | `schema` | u32, little endian: [`SCHEMA`] |
//! | default | `next_id` | u64, little endian: this id and higher ones were never given to a snapshot |
//! | `snapshots` | name | [`Snapshot`] in bincode |
//! | `layers` | `<repository>/<digest>` | [`LayerScan`] in bincode: the owner and the whiteouts of a published layer |
//!
//! # Invariants
//!
//! Every change is one synchronous batch, written before it is applied in memory and before containerd gets its answer.
//! A directory below the root exists before the record that names it and is deleted after it: a crash leaves directories
//! without records, never records without directories.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bincode::config::Configuration;
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
/// Larger than any valid record (containerd limits labels to 4 KiB each), so a damaged one allocates at most this.
const RECORD_LIMIT: usize = 64 << 20;

type Codec =
    Configuration<bincode::config::LittleEndian, bincode::config::Varint, bincode::config::Limit<RECORD_LIMIT>>;

fn codec() -> Codec {
    bincode::config::standard().with_limit::<RECORD_LIMIT>()
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed.
    #[error("{0}")]
    RocksDb(#[from] rocksdb::Error),
    /// A record cannot be decoded.
    #[error("the record {0:?} is damaged: {1}")]
    Damaged(String, String),
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
            let snapshot: Snapshot = decode(&name, &value)?;
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
            batch.put_cf(family, name, encode(name, snapshot)?);
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
            Some(bytes) => decode(&key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Keeps the scan of a published layer. It stays valid: a layer is named by its digest and never changes.
    pub fn put_layer_scan(&self, repository: &str, digest: &Digest, scan: &LayerScan) -> Result<(), StoreError> {
        let key = layer_key(repository, digest);
        Ok(self.db.put_cf(family(&self.db, LAYERS)?, &key, encode(&key, scan)?)?)
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
    let damaged =
        |_| StoreError::Damaged(String::from_utf8_lossy(key).into_owned(), format!("{} bytes, not {N}", bytes.len()));
    bytes.try_into().map_err(damaged)
}

fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Damaged(name.to_owned(), "no such column family".to_owned()))
}

fn layer_key(repository: &str, digest: &Digest) -> String {
    format!("{repository}/{}", digest.hex())
}

fn encode<T: bincode::Encode>(name: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    bincode::encode_to_vec(value, codec()).map_err(|error| StoreError::Damaged(name.to_owned(), error.to_string()))
}

fn decode<T: bincode::Decode<()>>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    match bincode::decode_from_slice(bytes, codec()) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok(_) => Err(StoreError::Damaged(name.to_owned(), "bytes left over".to_owned())),
        Err(error) => Err(StoreError::Damaged(name.to_owned(), error.to_string())),
    }
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

    #[test]
    fn a_newer_schema_and_a_damaged_record_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        add(&store, "a");
        store.db.put_cf(family(&store.db, SNAPSHOTS).unwrap(), "a", b"\xff\xff").unwrap();
        drop(store);
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Damaged(name, _)) if name == "a"));
        let db = DB::open_cf(&Options::default(), directory.path(), [SNAPSHOTS, LAYERS]).unwrap();
        db.put(SCHEMA_KEY, (SCHEMA + 1).to_le_bytes()).unwrap();
        drop(db);
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("upgrade"), "{error}");
    }
}
