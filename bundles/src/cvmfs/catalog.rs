//! File catalogs: SQLite databases that list a sub-tree. Source: `cvmfs/catalog_sql.h`, schema 2.5.

mod row;

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use rusqlite::{Connection, OptionalExtension, Row};

use super::CvmfsError;
use crate::object::ContentHash;
use crate::path::RootPath;

// For fuzz targets.
#[doc(hidden)]
pub use row::{RawChunk, RawEntry};

/// The largest catalog that is read, decompressed.
pub const MAX_SIZE: u64 = 4 << 30;

/// One path of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Last component; empty for the root.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Type and permission bits, as `stat` gives them.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// A device, FIFO or socket.
    Special,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In one object.
    Whole {
        /// The object.
        hash: ContentHash,
        /// Whether it is stored zlib-compressed.
        compressed: bool,
    },
    /// In chunk objects, by offset.
    Chunks {
        /// The chunks, covering the file without gaps.
        chunks: Vec<Chunk>,
        /// Whether they are stored zlib-compressed.
        compressed: bool,
    },
    /// Outside the repository's storage.
    External,
}

/// A piece of a chunked file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it starts in the file.
    pub offset: u64,
    /// Bytes, decompressed.
    pub size: u64,
    /// The object.
    pub hash: ContentHash,
}

impl Chunk {
    /// Refuses chunks that do not cover a file of `size` bytes, one behind the other.
    pub(super) fn cover(chunks: &[Self], size: u64) -> Result<(), String> {
        let mut next = 0u64;
        for chunk in chunks {
            if chunk.offset != next {
                return Err(format!("has no chunk at offset {next}"));
            }
            next = next.saturating_add(chunk.size);
        }
        if next == size { Ok(()) } else { Err(format!("has {size} bytes, its chunks end at {next}")) }
    }
}

/// A catalog, open.
#[derive(Debug)]
pub(super) struct Catalog {
    database: Connection,
    mountpoint: RootPath,
    /// Where further catalogs take over: hash and raw size.
    nested: BTreeMap<RootPath, (ContentHash, u64)>,
}

impl Catalog {
    /// Opens the content of a verified catalog object.
    pub(super) fn open(mountpoint: RootPath, content: &[u8]) -> Result<Self, CvmfsError> {
        let fail = |e: rusqlite::Error| failure(&mountpoint, e);
        let mut database = Connection::open_in_memory().map_err(fail)?;
        database.deserialize_read_exact("main", content, content.len(), true).map_err(fail)?;
        let nested = nested_catalogs(&database, &mountpoint)?;
        Ok(Self { database, mountpoint, nested })
    }

    /// The catalog that takes over at `path` or above it: its mountpoint, hash and raw size.
    pub(super) fn nested_for(&self, path: &RootPath) -> Option<(&RootPath, ContentHash, u64)> {
        let mut at = Some(path.clone());
        while let Some(candidate) = at {
            if candidate == self.mountpoint {
                return None;
            }
            if let Some((mountpoint, (hash, size))) = self.nested.get_key_value(&candidate) {
                return Some((mountpoint, *hash, *size));
            }
            at = candidate.parent();
        }
        None
    }

    /// The entry of `path`, if this catalog has it.
    pub(super) fn lookup(&self, path: &RootPath) -> Result<Option<Entry>, CvmfsError> {
        let (high, low) = md5_of(path);
        let sql = format!("SELECT {} FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2", row::COLUMNS);
        let mut statement = self.database.prepare_cached(&sql).map_err(|e| self.failure(e))?;
        let row = statement.query_row((high, low), |row| Ok(self.entry(row))).optional();
        row.map_err(|e| self.failure(e))?.transpose()
    }

    /// The entries of the directory `path`, in order of their names.
    pub(super) fn list(&self, path: &RootPath) -> Result<Vec<Entry>, CvmfsError> {
        let (high, low) = md5_of(path);
        let sql = format!("SELECT {} FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2", row::COLUMNS);
        let mut statement = self.database.prepare_cached(&sql).map_err(|e| self.failure(e))?;
        let mut rows = statement.query((high, low)).map_err(|e| self.failure(e))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.failure(e))? {
            entries.push(self.entry(row)?);
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn entry(&self, row: &Row<'_>) -> Result<Entry, CvmfsError> {
        let raw = RawEntry::read(row).map_err(|e| self.failure(e))?;
        let chunks = if raw.is_chunked() { self.chunks(&raw).map_err(|e| self.failure(e))? } else { Vec::new() };
        raw.entry(chunks).map_err(|why| CvmfsError::Catalog { mountpoint: self.mountpoint.to_string(), why })
    }

    fn chunks(&self, raw: &RawEntry) -> rusqlite::Result<Vec<RawChunk>> {
        let sql = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY offset";
        let mut statement = self.database.prepare_cached(sql)?;
        statement.query_map(raw.md5, RawChunk::read)?.collect()
    }

    fn failure(&self, error: rusqlite::Error) -> CvmfsError {
        failure(&self.mountpoint, error)
    }
}

fn failure(mountpoint: &RootPath, error: rusqlite::Error) -> CvmfsError {
    CvmfsError::Catalog { mountpoint: mountpoint.to_string(), why: error.to_string() }
}

fn nested_catalogs(
    database: &Connection,
    mountpoint: &RootPath,
) -> Result<BTreeMap<RootPath, (ContentHash, u64)>, CvmfsError> {
    let fail = |e: rusqlite::Error| failure(mountpoint, e);
    let mut nested = BTreeMap::new();
    // Bind mountpoints lead to the root catalogs of older snapshots; to a reader they are nested catalogs.
    for table in ["nested_catalogs", "bind_mountpoints"] {
        let known = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1");
        if !known.and_then(|mut s| s.exists([table])).map_err(fail)? {
            continue;
        }
        let mut statement = database.prepare(&format!("SELECT path, sha1, size FROM {table}")).map_err(fail)?;
        let mut rows = statement.query(()).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            let path: String = row.get(0).map_err(fail)?;
            let hash: String = row.get(1).map_err(fail)?;
            let size: i64 = row.get(2).map_err(fail)?;
            nested.insert(RootPath::new(path)?, (hash.parse()?, size as u64));
        }
    }
    Ok(nested)
}

/// The key of a path: the MD5 of its text (the root's is empty), as two little-endian integers.
fn md5_of(path: &RootPath) -> (i64, i64) {
    let text = if path.as_bytes() == b"/" { b"" } else { path.as_bytes() };
    let digest: [u8; 16] = Md5::digest(text).into();
    let (high, low) = digest.split_at(8);
    let number = |half: &[u8]| i64::from_le_bytes(half.try_into().unwrap_or_default());
    (number(high), number(low))
}
