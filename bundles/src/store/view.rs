//! A store as it is read.

use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, IteratorMode};
use tracing::debug;

use super::layout::{self, BUNDLES, FACTS, MANIFESTS, PLACES, SCHEMA};
use super::{Facts, StoreError};
use crate::bundle::{Bundle, FORMAT};
use crate::codec::BadFile;
use crate::image::{ChainId, Digest};
use crate::pack::{PackPlace, decode_places};

/// A store as it is read. Opened on its own, it shows what was there at that moment, also while a daemon writes.
#[derive(Debug)]
pub struct View {
    pub(super) database: DB,
    path: PathBuf,
}

/// A bundle of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The bundle.
    pub bundle: Bundle,
    /// What else is known of it.
    pub facts: Facts,
    /// Where its repository has its packs, as far as that is known.
    pub places: Vec<(Digest, PackPlace)>,
}

/// A daemon may remove a file between its being listed and opened; so often it is tried again.
const TRIES: usize = 5;

impl View {
    /// Opens the store in `path` for reading only. Nothing is changed, made or locked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || match layout::schema(path)? {
            None => Err(StoreError::Absent { path: path.to_owned() }),
            Some(SCHEMA) => layout::open_read_only(path),
            Some(found) => Err(StoreError::Older { path: path.to_owned(), found }),
        };
        let mut result = open();
        for _ in 1..TRIES {
            if !matches!(result, Err(StoreError::Database { .. })) {
                break;
            }
            result = open();
        }
        Ok(Self::of(result?, path))
    }

    pub(super) fn of(database: DB, path: &Path) -> Self {
        Self { database, path: path.to_owned() }
    }

    /// The bundle of an image by its identity.
    pub fn by_chain(&self, chain: &ChainId) -> Result<Option<Stored>, StoreError> {
        let bytes =
            self.database.get_pinned_cf(self.family(BUNDLES), chain.0.as_bytes()).map_err(|e| self.failed(e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        self.stored(chain, &bytes)?.map(Some).map_err(|source| self.damaged(*chain, source))
    }

    /// The bundle of an image by its manifest.
    pub fn by_manifest(&self, manifest: &Digest) -> Result<Option<Stored>, StoreError> {
        self.chain_of(manifest)?.map_or(Ok(None), |chain| self.by_chain(&chain))
    }

    /// Gives each bundle, or what is wrong with it, to `take`, one at a time, in order of their chain IDs.
    pub fn each(&self, mut take: impl FnMut(ChainId, Result<Stored, BadFile>)) -> Result<(), StoreError> {
        for row in self.database.iterator_cf(self.family(BUNDLES), IteratorMode::Start) {
            let (key, value) = row.map_err(|e| self.failed(e))?;
            if let Some(chain) = chain(&key) {
                take(chain, self.stored(&chain, &value)?);
            }
        }
        Ok(())
    }

    /// The outer result is the database's, the inner the bundle's.
    fn stored(&self, chain: &ChainId, bytes: &[u8]) -> Result<Result<Stored, BadFile>, StoreError> {
        let bundle = match Bundle::from_bytes(bytes) {
            Ok(bundle) if bundle.image.chain_id == *chain => bundle,
            Ok(other) => return Ok(Err(FORMAT.content(format!("it is the bundle of {}", other.image.chain_id)))),
            Err(error) => return Ok(Err(error)),
        };
        Ok(match self.facts_of(chain)? {
            Some(facts) => Ok(Stored { bundle, facts, places: self.places_of(chain)? }),
            None => Err(FORMAT.content("the store knows no facts of it")),
        })
    }

    pub(super) fn has(&self, chain: &ChainId) -> Result<bool, StoreError> {
        let found = self.database.get_pinned_cf(self.family(BUNDLES), chain.0.as_bytes());
        found.map(|found| found.is_some()).map_err(|e| self.failed(e))
    }

    pub(super) fn chain_of(&self, manifest: &Digest) -> Result<Option<ChainId>, StoreError> {
        let found = self.database.get_cf(self.family(MANIFESTS), manifest.as_bytes()).map_err(|e| self.failed(e))?;
        Ok(found.and_then(|found| chain(&found)))
    }

    pub(super) fn facts_of(&self, chain: &ChainId) -> Result<Option<Facts>, StoreError> {
        let found = self.database.get_cf(self.family(FACTS), chain.0.as_bytes()).map_err(|e| self.failed(e))?;
        Ok(found.and_then(|found| Facts::from_bytes(&found)))
    }

    /// None, if they cannot be read: then they are looked for again.
    fn places_of(&self, chain: &ChainId) -> Result<Vec<(Digest, PackPlace)>, StoreError> {
        let found = self.database.get_cf(self.family(PLACES), chain.0.as_bytes()).map_err(|e| self.failed(e))?;
        let places = found.map(|bytes| decode_places(&bytes)).transpose();
        Ok(places
            .inspect_err(|error| debug!(%chain, %error, "places of packs not known"))
            .unwrap_or_default()
            .unwrap_or_default())
    }

    pub(super) fn facts(&self) -> Result<Vec<(ChainId, Facts)>, StoreError> {
        self.rows(FACTS, |key, value| Some((chain(key)?, Facts::from_bytes(value)?)))
    }

    pub(super) fn manifests(&self) -> Result<Vec<(Digest, ChainId)>, StoreError> {
        self.rows(MANIFESTS, |key, value| Some((chain(key)?.0, chain(value)?)))
    }

    fn rows<T>(&self, family: &str, of: impl Fn(&[u8], &[u8]) -> Option<T>) -> Result<Vec<T>, StoreError> {
        let rows = self.database.iterator_cf(self.family(family), IteratorMode::Start);
        rows.filter_map(|row| row.map(|(key, value)| of(&key, &value)).transpose())
            .collect::<Result<_, _>>()
            .map_err(|e| self.failed(e))
    }

    #[allow(clippy::expect_used, reason = "both ways of opening name all families, and an open database loses none")]
    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        self.database.cf_handle(name).expect("column family named by open()")
    }

    pub(super) fn failed(&self, source: rocksdb::Error) -> StoreError {
        layout::failed(&self.path, source)
    }

    pub(super) fn damaged(&self, chain: ChainId, source: BadFile) -> StoreError {
        StoreError::Bundle { path: self.path.clone(), chain, source }
    }
}

fn chain(key: &[u8]) -> Option<ChainId> {
    Some(ChainId(Digest::from_bytes(key.try_into().ok()?)))
}
