//! File catalogs: SQLite databases that list a sub-tree. Source: `cvmfs/catalog_sql.h`, schema 2.5.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use rusqlite::{Connection, OptionalExtension, Row};

use super::CvmfsError;
use crate::object::{ContentHash, HashAlgorithm};
use crate::path::RootPath;

/// The largest catalog that is read, decompressed.
pub const MAX_SIZE: u64 = 4 << 30;

const FLAG_DIRECTORY: u32 = 1;
const FLAG_FILE: u32 = 4;
const FLAG_LINK: u32 = 8;
const FLAG_SPECIAL: u32 = 16;
const FLAG_CHUNKED: u32 = 64;
const FLAG_EXTERNAL: u32 = 128;
const HASH_SHIFT: u32 = 8;
const COMPRESSION_SHIFT: u32 = 11;

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
        let sql = format!("SELECT {COLUMNS} FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2");
        let mut statement = self.database.prepare_cached(&sql).map_err(|e| self.failure(e))?;
        let row = statement.query_row((high, low), |row| Ok(self.entry(row))).optional();
        row.map_err(|e| self.failure(e))?.transpose()
    }

    /// The entries of the directory `path`, in order of their names.
    pub(super) fn list(&self, path: &RootPath) -> Result<Vec<Entry>, CvmfsError> {
        let (high, low) = md5_of(path);
        let sql = format!("SELECT {COLUMNS} FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2");
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
        let kind = if raw.flags & FLAG_DIRECTORY != 0 {
            EntryKind::Directory
        } else if raw.flags & FLAG_LINK != 0 {
            EntryKind::Symlink(raw.symlink.clone())
        } else if raw.flags & FLAG_SPECIAL != 0 || raw.mode & 0o170000 != 0o100000 {
            EntryKind::Special
        } else if raw.flags & FLAG_FILE != 0 {
            EntryKind::File(self.content(&raw)?)
        } else {
            return Err(self.wrong(format!("{:?} has flags {:#x}", String::from_utf8_lossy(&raw.name), raw.flags)));
        };
        Ok(Entry { name: raw.name, kind, mode: raw.mode, size: raw.size, mtime: raw.mtime, uid: raw.uid, gid: raw.gid })
    }

    fn content(&self, raw: &RawEntry) -> Result<Content, CvmfsError> {
        let compressed = (raw.flags >> COMPRESSION_SHIFT) & 7 == 0;
        if raw.flags & FLAG_EXTERNAL != 0 {
            return Ok(Content::External);
        }
        if raw.flags & FLAG_CHUNKED != 0 {
            return Ok(Content::Chunks { chunks: self.chunks(raw)?, compressed });
        }
        Ok(Content::Whole { hash: self.hash(raw, &raw.hash)?, compressed })
    }

    fn chunks(&self, raw: &RawEntry) -> Result<Vec<Chunk>, CvmfsError> {
        let sql = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY offset";
        let mut statement = self.database.prepare_cached(sql).map_err(|e| self.failure(e))?;
        let rows = statement.query_map(raw.md5, |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64, row.get::<_, Vec<u8>>(2)?))
        });
        let (mut chunks, mut next) = (Vec::new(), 0);
        for row in rows.map_err(|e| self.failure(e))? {
            let (offset, size, hash) = row.map_err(|e| self.failure(e))?;
            if offset != next {
                return Err(self.wrong(format!("{:?}: no chunk at offset {next}", String::from_utf8_lossy(&raw.name))));
            }
            next = offset.saturating_add(size);
            chunks.push(Chunk { offset, size, hash: self.hash(raw, &hash)? });
        }
        if next != raw.size {
            return Err(self.wrong(format!("{:?}: its chunks end at {next}", String::from_utf8_lossy(&raw.name))));
        }
        Ok(chunks)
    }

    fn hash(&self, raw: &RawEntry, bytes: &[u8]) -> Result<ContentHash, CvmfsError> {
        let name = || String::from_utf8_lossy(&raw.name).into_owned();
        let algorithm = match (raw.flags >> HASH_SHIFT) & 7 {
            0 => HashAlgorithm::Sha1,
            1 => HashAlgorithm::Rmd160,
            2 => HashAlgorithm::Shake128,
            other => return Err(self.wrong(format!("{:?} has the unknown hash algorithm {other}", name()))),
        };
        let digest =
            bytes.try_into().map_err(|_| self.wrong(format!("{:?} has a hash of {} bytes", name(), bytes.len())))?;
        Ok(ContentHash { algorithm, digest })
    }

    fn failure(&self, error: rusqlite::Error) -> CvmfsError {
        failure(&self.mountpoint, error)
    }

    fn wrong(&self, why: String) -> CvmfsError {
        CvmfsError::Catalog { mountpoint: self.mountpoint.to_string(), why }
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

const COLUMNS: &str = "md5path_1, md5path_2, hash, size, mode, mtime, flags, name, symlink, uid, gid";

struct RawEntry {
    md5: (i64, i64),
    hash: Vec<u8>,
    size: u64,
    mode: u32,
    mtime: i64,
    flags: u32,
    name: Vec<u8>,
    symlink: Vec<u8>,
    uid: u32,
    gid: u32,
}

impl RawEntry {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bytes = |column: usize| -> rusqlite::Result<Vec<u8>> {
            use rusqlite::types::ValueRef::{Blob, Text};
            Ok(match row.get_ref(column)? {
                Blob(bytes) | Text(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            })
        };
        Ok(Self {
            md5: (row.get(0)?, row.get(1)?),
            hash: bytes(2)?,
            size: row.get::<_, i64>(3)? as u64,
            mode: row.get(4)?,
            mtime: row.get(5)?,
            flags: row.get(6)?,
            name: bytes(7)?,
            symlink: bytes(8)?,
            uid: row.get(9)?,
            gid: row.get(10)?,
        })
    }
}

/// The key of a path: the MD5 of its text (the root's is empty), as two little-endian integers.
fn md5_of(path: &RootPath) -> (i64, i64) {
    let text = if path.as_bytes() == b"/" { b"" } else { path.as_bytes() };
    let digest: [u8; 16] = Md5::digest(text).into();
    let (high, low) = digest.split_at(8);
    let number = |half: &[u8]| i64::from_le_bytes(half.try_into().unwrap_or_default());
    (number(high), number(low))
}
