//! The RocksDB below the store.
//!
//! After a failed write, for example on a full disk, RocksDB refuses all further writes until it is opened again. So it can be.

use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use rocksdb::{ColumnFamily, DB, Options};

use super::{LAYERS, SNAPSHOTS, StoreError};

#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// None after opening it again failed.
    db: RwLock<Option<DB>>,
}

impl Database {
    /// Opens or creates the database at `path`. Only one process can open it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), db: RwLock::new(Some(open(path)?)) })
    }

    /// Reads or writes.
    pub(super) fn with<T>(&self, work: impl FnOnce(&DB) -> Result<T, StoreError>) -> Result<T, StoreError> {
        work(self.db.read().as_ref().ok_or(StoreError::Closed)?)
    }

    /// Opens it again.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut db = self.db.write();
        // Its lock must be free before it can be opened.
        drop(db.take());
        *db = Some(open(&self.path)?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<DB, StoreError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_keep_log_file_num(2);
    // Without these, it starts as many threads as the machine has processors.
    options.set_max_background_jobs(2);
    options.set_max_file_opening_threads(1);
    Ok(DB::open_cf(&options, path, [SNAPSHOTS, LAYERS])?)
}

pub(super) fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Damaged(format!("the column family {name} is missing")))
}
