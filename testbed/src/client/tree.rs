//! The directory tree of one revision: catalogs, loaded as paths need them.
//!
//! Paths are absolute; the root is the empty string, as catalogs have it. Only the crate's functions on hashed paths are
//! used: those on texts resolve symbolic links of the machine's own root file system.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result};
use bundles::object::{ContentHash, ObjectKind};
use cvmfs::catalog::Catalog;
use cvmfs::common::{CvmfsError, split_md5};
use cvmfs::directory_entry::{DirectoryEntry, PathHash};
use md5::{Digest, Md5};

use super::entry::{Entry, Piece};
use super::objects::{Object, Objects};

#[derive(Debug)]
pub(super) struct Tree {
    objects: Arc<Objects>,
    root: ContentHash,
    loaded: RwLock<HashMap<ContentHash, Arc<LoadedCatalog>>>,
}

#[derive(Debug)]
struct LoadedCatalog {
    /// The crate's type says it may be shared between threads, but its SQLite connection may not.
    catalog: Mutex<Catalog>,
    nested: Vec<Nested>,
}

/// A reference to a catalog below another.
#[derive(Debug)]
struct Nested {
    mount_point: String,
    hash: ContentHash,
}

impl Tree {
    /// Loads the root catalog.
    pub(super) fn new(objects: Arc<Objects>, root: ContentHash) -> Result<Self> {
        let tree = Self { objects, root, loaded: RwLock::default() };
        tree.load(root)?;
        Ok(tree)
    }

    /// The entry at `path`; `None` if there is none.
    pub(super) fn lookup(&self, path: &str) -> Result<Option<Entry>> {
        self.row(path)?.map(|row| Entry::new(&row)).transpose()
    }

    /// The names and entries in the directory `path`.
    pub(super) fn list(&self, path: &str) -> Result<Vec<(String, Entry)>> {
        let catalog = self.catalog_of(path, is_at_or_below)?;
        let PathHash { hash1, hash2 } = hash_path(path);
        let rows = catalog.lock().list_directory_split_md5(hash1, hash2);
        let rows = rows.with_context(|| format!("cannot list {path:?}"))?;
        rows.into_iter().map(|row| Entry::new(&row).map(|entry| (row.name, entry))).collect()
    }

    /// The pieces of the chunked file `path`, by offset.
    pub(super) fn pieces(&self, path: &str) -> Result<Vec<Piece>> {
        let mut row = self.row(path)?.with_context(|| format!("no file {path:?}"))?;
        self.catalog_of(path, is_below)?
            .lock()
            .load_chunks(&mut row)
            .with_context(|| format!("cannot read chunks of {path:?}"))?;
        row.chunks.iter().map(|chunk| Piece::new(chunk, &row)).collect()
    }

    /// The root directory of a nested catalog is in its parent catalog, too, which suffices to look it up. Source:
    /// `AbstractCatalogManager::LookupPath` in CVMFS's `catalog_mgr_impl.h`.
    fn row(&self, path: &str) -> Result<Option<DirectoryEntry>> {
        let digest: [u8; 16] = Md5::digest(path).into();
        match self.catalog_of(path, is_below)?.lock().find_directory_entry_md5(&digest) {
            Ok(row) => Ok(Some(row)),
            Err(CvmfsError::FileNotFound) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look up {path:?}")),
        }
    }

    /// The innermost catalog, from the root down, for which `has` returns true.
    fn catalog_of(&self, path: &str, has: fn(&str, &str) -> bool) -> Result<Arc<LoadedCatalog>> {
        let mut catalog = self.load(self.root)?;
        while let Some(nested) = catalog.nested.iter().find(|nested| has(path, &nested.mount_point)) {
            catalog = self.load(nested.hash)?;
        }
        Ok(catalog)
    }

    fn load(&self, hash: ContentHash) -> Result<Arc<LoadedCatalog>> {
        if let Some(catalog) = self.loaded.read().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return Ok(Arc::clone(catalog));
        }
        let path = self.objects.path(&Object::of_unknown_size(hash, ObjectKind::Catalog))?;
        let path = path.to_str().context("the cache's path is not UTF-8")?.to_owned();
        let catalog = Catalog::new(path, hash.to_string()).with_context(|| format!("cannot open catalog {hash}"))?;
        let references = catalog.list_nested().with_context(|| format!("cannot read catalog {hash}"))?;
        let nested = references.into_iter().map(|reference| {
            let hash = reference.catalog_hash.parse()?;
            Ok(Nested { mount_point: reference.root_path, hash })
        });
        let nested = nested.collect::<Result<_>>()?;
        let catalog = Arc::new(LoadedCatalog { catalog: Mutex::new(catalog), nested });
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(loaded.entry(hash).or_insert(catalog)))
    }
}

impl LoadedCatalog {
    fn lock(&self) -> std::sync::MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nested catalogs of one catalog are never below each other, so at most one contains a path.
fn is_at_or_below(path: &str, mount_point: &str) -> bool {
    path == mount_point || is_below(path, mount_point)
}

fn is_below(path: &str, mount_point: &str) -> bool {
    path.strip_prefix(mount_point).is_some_and(|rest| rest.starts_with('/'))
}

fn hash_path(path: &str) -> PathHash {
    split_md5(&Md5::digest(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_contains_itself_and_what_is_below() {
        for (path, expected) in [("/a", true), ("/a/b", true), ("/ab", false), ("/", false), ("", false)] {
            assert_eq!(is_at_or_below(path, "/a"), expected, "{path:?}");
            assert_eq!(is_below(path, "/a"), expected && path != "/a", "{path:?}");
        }
    }
}
