//! The bundles of a node, in RocksDB.
//!
//! ```text
//! column family   key                       value
//! default         "schema"                  version of this layout, u32 little endian
//! bundles         chain ID, 32 bytes        the bundle file, as [`crate::codec`] seals it
//! manifests       manifest digest, 32 bytes chain ID, 32 bytes
//! ```
//!
//! Invariants: a manifest's entry is written in one batch with the bundle it leads to; every acknowledged write is
//! synced, so that it survives a power cut. One process opens a store at a time (RocksDB's lock).

use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::bundle::Bundle;
use crate::codec::BadFile;
use crate::image::{ChainId, Digest};

/// The layout this program writes. A store with another is refused.
const SCHEMA: u32 = 1;
const SCHEMA_KEY: &[u8] = b"schema";
const BUNDLES: &str = "bundles";
const MANIFESTS: &str = "manifests";

/// A node's bundles.
#[derive(Debug)]
pub struct Store {
    database: DB,
    path: PathBuf,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB failed.
    #[error("bundle store {path}: {source}")]
    Database {
        /// The store's directory.
        path: PathBuf,
        /// Why.
        source: rocksdb::Error,
    },
    /// Another layout.
    #[error(
        "bundle store {path} has layout {found}, this program knows {SCHEMA}: move the directory away, bundles are fetched again"
    )]
    Schema {
        /// The store's directory.
        path: PathBuf,
        /// The layout found.
        found: String,
    },
    /// A bundle in it is damaged.
    #[error("bundle store {path}: {source}")]
    Bundle {
        /// The store's directory.
        path: PathBuf,
        /// Why.
        source: BadFile,
    },
}

impl Store {
    /// Opens the store in `path`, making it if it is not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Database { path: path.to_owned(), source };
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // Bundles are few and small: a small write buffer keeps an idle daemon small, and bundles do not compress.
        options.set_db_write_buffer_size(8 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(64);
        let families = [BUNDLES, MANIFESTS].map(|name| {
            let mut options = Options::default();
            options.set_write_buffer_size(4 << 20);
            options.set_compression_type(rocksdb::DBCompressionType::Lz4);
            ColumnFamilyDescriptor::new(name, options)
        });
        let database = DB::open_cf_descriptors(&options, path, families).map_err(failed)?;
        let store = Self { database, path: path.to_owned() };
        store.check_schema()?;
        Ok(store)
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        match self.database.get(SCHEMA_KEY).map_err(|e| self.failed(e))? {
            None => self.database.put_opt(SCHEMA_KEY, SCHEMA.to_le_bytes(), &synced()).map_err(|e| self.failed(e)),
            Some(found) if found == SCHEMA.to_le_bytes() => Ok(()),
            Some(found) => Err(StoreError::Schema { path: self.path.clone(), found: format!("{found:?}") }),
        }
    }

    /// Keeps `bundle`, in place of an older one of the same image.
    pub fn put(&self, bundle: &Bundle) -> Result<(), StoreError> {
        let bytes = bundle.to_bytes().map_err(|e| self.damaged(e))?;
        let chain = key(&bundle.image.chain_id.0);
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(BUNDLES), &chain, bytes);
        if let Some(manifest) = &bundle.image.manifest {
            batch.put_cf(self.family(MANIFESTS), key(manifest), &chain);
        }
        self.database.write_opt(batch, &synced()).map_err(|e| self.failed(e))
    }

    /// The bundle of an image by its identity.
    pub fn by_chain(&self, chain_id: &ChainId) -> Result<Option<Bundle>, StoreError> {
        self.get(&key(&chain_id.0))
    }

    /// The bundle of an image by its manifest.
    pub fn by_manifest(&self, manifest: &Digest) -> Result<Option<Bundle>, StoreError> {
        let chain = self.database.get_cf(self.family(MANIFESTS), key(manifest)).map_err(|e| self.failed(e))?;
        chain.map_or(Ok(None), |chain| self.get(&chain))
    }

    /// All bundles, in order of their chain IDs.
    pub fn list(&self) -> Result<Vec<Bundle>, StoreError> {
        let all = self.database.iterator_cf(self.family(BUNDLES), IteratorMode::Start);
        all.map(|row| self.decode(&row.map_err(|e| self.failed(e))?.1)).collect()
    }

    /// Forgets a bundle; whether there was one.
    pub fn remove(&self, chain_id: &ChainId) -> Result<bool, StoreError> {
        let chain = key(&chain_id.0);
        let there = self.database.get_cf(self.family(BUNDLES), &chain).map_err(|e| self.failed(e))?.is_some();
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(BUNDLES), &chain);
        for row in self.database.iterator_cf(self.family(MANIFESTS), IteratorMode::Start) {
            let (manifest, target) = row.map_err(|e| self.failed(e))?;
            if *target == *chain {
                batch.delete_cf(self.family(MANIFESTS), manifest);
            }
        }
        self.database.write_opt(batch, &synced()).map_err(|e| self.failed(e))?;
        Ok(there)
    }

    fn get(&self, chain: &[u8]) -> Result<Option<Bundle>, StoreError> {
        let bytes = self.database.get_pinned_cf(self.family(BUNDLES), chain).map_err(|e| self.failed(e))?;
        bytes.map(|bytes| self.decode(&bytes)).transpose()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Bundle, StoreError> {
        Bundle::from_bytes(bytes).map_err(|e| self.damaged(e))
    }

    #[allow(
        clippy::expect_used,
        reason = "open() makes both families, and RocksDB cannot lose one of an open database"
    )]
    fn family(&self, name: &str) -> &ColumnFamily {
        self.database.cf_handle(name).expect("column family made by open()")
    }

    fn failed(&self, source: rocksdb::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }

    fn damaged(&self, source: BadFile) -> StoreError {
        StoreError::Bundle { path: self.path.clone(), source }
    }
}

fn key(digest: &Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageId;

    fn bundle(chain: &str, manifest: Option<&str>) -> Bundle {
        Bundle::of(
            ImageId {
                chain_id: ChainId(Digest::of(chain.as_bytes())),
                manifest: manifest.map(|m| Digest::of(m.as_bytes())),
                reference: chain.to_owned(),
            },
            "unpacked.example.org",
        )
    }

    #[test]
    fn bundles_are_found_by_both_names_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (bundle("one", Some("m1")), bundle("two", None));
        {
            let store = Store::open(directory.path()).unwrap();
            store.put(&one).unwrap();
            store.put(&two).unwrap();
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.by_chain(&one.image.chain_id).unwrap().as_ref(), Some(&one));
        assert_eq!(store.by_chain(&two.image.chain_id).unwrap().as_ref(), Some(&two));
        assert_eq!(store.by_manifest(&Digest::of(b"m1")).unwrap().as_ref(), Some(&one));
        assert_eq!(store.by_manifest(&Digest::of(b"m2")).unwrap(), None);
        assert_eq!(store.list().unwrap().len(), 2);
        assert!(store.remove(&one.image.chain_id).unwrap());
        assert!(!store.remove(&one.image.chain_id).unwrap());
        assert_eq!(store.by_manifest(&Digest::of(b"m1")).unwrap(), None);
        assert_eq!(store.list().unwrap(), [two]);
    }

    #[test]
    fn a_store_of_another_layout_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.database.put(SCHEMA_KEY, 2u32.to_le_bytes()).unwrap();
        drop(store);
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Schema { .. })));
    }
}
