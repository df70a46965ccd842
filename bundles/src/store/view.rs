//! Reading a store.

use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamily, DB, IteratorMode};
use tracing::debug;

use super::layout::{self, BUNDLES, FACTS, MANIFESTS, PLACES};
use super::{Facts, SCHEMA, StoreError};
use crate::bundle::{Bundle, FORMAT};
use crate::codec::FormatError;
use crate::image::{ChainId, Digest};
use crate::pack::{PublishedPack, decode_published_packs};

/// A store, opened for reading. It shows the store at the moment of opening, also while a daemon writes.
#[derive(Debug)]
pub struct View {
    pub(super) database: DB,
    path: PathBuf,
}

/// A bundle in a store, and what the store knows about it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBundle {
    /// The bundle itself.
    pub bundle: Bundle,
    /// Size, last use and origin.
    pub facts: Facts,
    /// Where the repository has its packs, as far as known.
    pub published_packs: Vec<(Digest, PublishedPack)>,
}

/// The file of a bundle in a store, not decoded, and what the store knows about it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFile {
    /// The chain ID under which it is stored. The bundle must have it.
    pub chain: ChainId,
    /// The bytes of the file.
    pub file: Vec<u8>,
    /// Size, last use and origin.
    pub facts: Facts,
    /// Where the repository has its packs, as far as known.
    pub published_packs: Vec<(Digest, PublishedPack)>,
}

/// Attempts to open: the daemon may remove a file after it was listed.
const ATTEMPTS: usize = 5;

impl View {
    /// Opens the store in `path` for reading. Nothing is created, changed or locked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || match layout::schema(path)? {
            None => Err(StoreError::Absent { path: path.to_owned() }),
            Some(SCHEMA) => layout::open_read_only(path),
            Some(found) => Err(StoreError::Older { path: path.to_owned(), found }),
        };
        let mut result = open();
        for _ in 1..ATTEMPTS {
            if !matches!(result, Err(StoreError::Database { .. })) {
                break;
            }
            result = open();
        }
        Ok(Self::new(result?, path))
    }

    pub(super) fn new(database: DB, path: &Path) -> Self {
        Self { database, path: path.to_owned() }
    }

    /// Looks up the bundle of an image by chain ID.
    pub fn by_chain(&self, chain: &ChainId) -> Result<Option<StoredBundle>, StoreError> {
        let bytes =
            self.database.get_pinned_cf(self.family(BUNDLES), chain.0.as_bytes()).map_err(|e| self.failed(e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        self.stored(chain, &bytes)?.map(Some).map_err(|source| self.damaged(*chain, source))
    }

    pub(super) fn file_by_chain(&self, chain: &ChainId) -> Result<Option<StoredFile>, StoreError> {
        let file = self.database.get_cf(self.family(BUNDLES), chain.0.as_bytes()).map_err(|e| self.failed(e))?;
        let Some(file) = file else { return Ok(None) };
        let facts = self.facts_of(chain)?.ok_or_else(|| self.damaged(*chain, no_facts()))?;
        Ok(Some(StoredFile { chain: *chain, file, facts, published_packs: self.published_packs_of(chain)? }))
    }

    /// Looks up the bundle of an image by manifest digest.
    pub fn by_manifest(&self, manifest: &Digest) -> Result<Option<StoredBundle>, StoreError> {
        self.chain_of(manifest)?.map_or(Ok(None), |chain| self.by_chain(&chain))
    }

    /// Passes each bundle, or what is wrong with it, to `take`, one at a time, in order of chain ID.
    pub fn each(&self, mut take: impl FnMut(ChainId, Result<StoredBundle, FormatError>)) -> Result<(), StoreError> {
        for row in self.database.iterator_cf(self.family(BUNDLES), IteratorMode::Start) {
            let (key, value) = row.map_err(|e| self.failed(e))?;
            if let Some(chain) = chain(&key) {
                take(chain, self.stored(&chain, &value)?);
            }
        }
        Ok(())
    }

    /// The outer result is the database's, the inner one the bundle's.
    fn stored(&self, chain: &ChainId, bytes: &[u8]) -> Result<Result<StoredBundle, FormatError>, StoreError> {
        let bundle = match Bundle::from_bytes(bytes) {
            Ok(bundle) if bundle.image.chain_id == *chain => bundle,
            Ok(other) => return Ok(Err(FORMAT.content(format!("it is the bundle of {}", other.image.chain_id)))),
            Err(error) => return Ok(Err(error)),
        };
        Ok(match self.facts_of(chain)? {
            Some(facts) => Ok(StoredBundle { bundle, facts, published_packs: self.published_packs_of(chain)? }),
            None => Err(no_facts()),
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

    /// Empty if they cannot be read: then they are looked up again.
    fn published_packs_of(&self, chain: &ChainId) -> Result<Vec<(Digest, PublishedPack)>, StoreError> {
        let found = self.database.get_cf(self.family(PLACES), chain.0.as_bytes()).map_err(|e| self.failed(e))?;
        let places = found.map(|bytes| decode_published_packs(&bytes)).transpose();
        Ok(places
            .inspect_err(|error| debug!(%chain, %error, "cannot read the list of published packs"))
            .unwrap_or_default()
            .unwrap_or_default())
    }

    pub(super) fn facts(&self) -> Result<Vec<(ChainId, Facts)>, StoreError> {
        self.rows(FACTS, |key, value| Some((chain(key)?, Facts::from_bytes(value)?)))
    }

    pub(super) fn manifests(&self) -> Result<Vec<(Digest, ChainId)>, StoreError> {
        self.rows(MANIFESTS, |key, value| Some((chain(key)?.0, chain(value)?)))
    }

    fn rows<T>(&self, family: &str, convert: impl Fn(&[u8], &[u8]) -> Option<T>) -> Result<Vec<T>, StoreError> {
        let rows = self.database.iterator_cf(self.family(family), IteratorMode::Start);
        rows.filter_map(|row| row.map(|(key, value)| convert(&key, &value)).transpose())
            .collect::<Result<_, _>>()
            .map_err(|e| self.failed(e))
    }

    #[allow(
        clippy::expect_used,
        reason = "both ways of opening name all column families, and an open database keeps them"
    )]
    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        self.database.cf_handle(name).expect("column family named by open()")
    }

    pub(super) fn failed(&self, source: rocksdb::Error) -> StoreError {
        layout::failed(&self.path, source)
    }

    pub(super) fn damaged(&self, chain: ChainId, source: FormatError) -> StoreError {
        StoreError::Bundle { path: self.path.clone(), chain, source }
    }
}

fn no_facts() -> FormatError {
    FORMAT.content("the store has no facts about it")
}

fn chain(key: &[u8]) -> Option<ChainId> {
    Some(ChainId(Digest::from_bytes(key.try_into().ok()?)))
}
