//! File catalogs: SQLite databases that list a subtree. Source: `cvmfs/catalog_sql.h`, schema 2.5.

mod row;

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use rusqlite::{Connection, OptionalExtension, Row};

use super::CvmfsError;
use crate::object::{ContentHash, ParseHashError};
use crate::path::{MAX_LEN, RootPath};

// For fuzz targets.
#[doc(hidden)]
pub use row::{EntryError, RawChunk, RawEntry};

/// Largest catalog that is read, decompressed.
pub const MAX_SIZE: u64 = 4 << 30;

/// A path of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Last component of the path; empty for the root.
    pub name: Vec<u8>,
    /// Type of the entry, with its content.
    pub kind: EntryKind,
    /// Type and permission bits, as `stat` returns them.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The type of a path.
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

/// Where a file's bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In one object.
    Whole {
        /// Hash of the object.
        hash: ContentHash,
        /// Whether it is stored zlib-compressed.
        compressed: bool,
    },
    /// In chunk objects, by offset.
    Chunks {
        /// The chunks, which cover the file without gaps.
        chunks: Vec<Chunk>,
        /// Whether they are stored zlib-compressed.
        compressed: bool,
    },
    /// Outside the repository's object storage.
    External,
}

/// A chunk of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Offset in the file.
    pub offset: u64,
    /// Size in bytes, decompressed.
    pub size: u64,
    /// Hash of the object.
    pub hash: ContentHash,
}

impl Chunk {
    /// Checks that the chunks cover a file of `size` bytes, one after the other.
    pub(super) fn check_coverage(chunks: &[Self], size: u64) -> Result<(), ContentError> {
        let mut next = 0u64;
        for chunk in chunks {
            if chunk.offset != next {
                return Err(ContentError::Gap { offset: next });
            }
            next = next.saturating_add(chunk.size);
        }
        if next == size { Ok(()) } else { Err(ContentError::WrongEnd { size, end: next }) }
    }
}

/// A catalog or a mounted client describes the content of a file in a way that cannot be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// No chunk begins where the one before ends.
    #[error("no chunk begins at offset {offset}")]
    Gap {
        /// Where a chunk should begin.
        offset: u64,
    },
    /// The chunks have another size than the file.
    #[error("the file has {size} bytes, but its chunks end at {end}")]
    WrongEnd {
        /// Size of the file.
        size: u64,
        /// Where the last chunk ends.
        end: u64,
    },
    /// The flags of an entry do not say what it is.
    #[error("unknown flags {0:#x}")]
    Flags(u32),
    /// The flags name an unknown hash algorithm.
    #[error("unknown hash algorithm {0}")]
    Algorithm(u32),
    /// A digest has another length than 20 bytes.
    #[error("hash of {0} bytes instead of 20")]
    HashLength(usize),
    /// A line of a chunk list is malformed.
    #[error("{0:?} is not a line hash,offset,size")]
    Line(String),
    /// The hash of a chunk is malformed.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
}

/// An open catalog.
#[derive(Debug)]
pub(super) struct Catalog {
    database: Connection,
    mountpoint: RootPath,
    /// The columns to select for an entry.
    columns: String,
    /// Nested catalogs by mount point: hash and raw size.
    nested: BTreeMap<RootPath, (ContentHash, u64)>,
}

impl Catalog {
    /// Opens the content of a verified catalog object.
    pub(super) fn open(mountpoint: RootPath, content: &[u8]) -> Result<Self, CvmfsError> {
        let fail = |e: rusqlite::Error| failure(&mountpoint, e);
        let mut database = Connection::open_in_memory().map_err(fail)?;
        database.deserialize_read_exact("main", content, content.len(), true).map_err(fail)?;
        let nested = nested_catalogs(&database, &mountpoint)?;
        let has_nanoseconds = database.column_exists(None, "catalog", row::NANOSECONDS).map_err(fail)?;
        let columns = format!("{}, {}", row::COLUMNS, if has_nanoseconds { row::NANOSECONDS } else { "NULL" });
        Ok(Self { database, mountpoint, columns, nested })
    }

    /// The nested catalog that contains `path`: its mount point, hash and raw size.
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

    /// The entry of `path`, if it is in this catalog.
    pub(super) fn lookup(&self, path: &RootPath) -> Result<Option<Entry>, CvmfsError> {
        let (high, low) = md5_of(path);
        let sql = format!("SELECT {} FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2", self.columns);
        let mut statement = self.database.prepare_cached(&sql).map_err(|e| self.failure(e))?;
        let row = statement.query_row((high, low), |row| Ok(self.entry(row))).optional();
        row.map_err(|e| self.failure(e))?.transpose()
    }

    /// The entries of the directory `path`, sorted by name.
    pub(super) fn list(&self, path: &RootPath) -> Result<Vec<Entry>, CvmfsError> {
        let (high, low) = md5_of(path);
        let sql = format!("SELECT {} FROM catalog WHERE parent_1 = ?1 AND parent_2 = ?2", self.columns);
        let mut statement = self.database.prepare_cached(&sql).map_err(|e| self.failure(e))?;
        let mut rows = statement.query((high, low)).map_err(|e| self.failure(e))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.failure(e))? {
            entries.push(self.entry(row)?);
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The nested catalogs.
    pub(super) fn nested(&self) -> impl Iterator<Item = (&RootPath, ContentHash, u64)> {
        self.nested.iter().map(|(mountpoint, (hash, size))| (mountpoint, *hash, *size))
    }

    /// The paths of all whiteouts in this catalog, sorted.
    pub(super) fn whiteouts(&self) -> Result<Vec<RootPath>, CvmfsError> {
        // The first name after all that begin with `.wh.` is `.wh/`. Names are compared by bytes; there is no
        // index of names anyway.
        let sql = "SELECT name, parent_1, parent_2 FROM catalog WHERE name >= '.wh.' AND name < '.wh/'";
        let mut statement = self.database.prepare_cached(sql).map_err(|e| self.failure(e))?;
        let rows = statement.query_map((), Node::read).map_err(|e| self.failure(e))?;
        let nodes = rows.collect::<Result<Vec<_>, _>>().map_err(|e| self.failure(e))?;
        let mut paths = nodes.into_iter().map(|node| self.path(node)).collect::<Result<Vec<_>, _>>()?;
        paths.sort_unstable();
        Ok(paths)
    }

    /// The path of an entry, found by walking up to the catalog's root.
    fn path(&self, mut at: Node) -> Result<RootPath, CvmfsError> {
        let top = md5_of(&self.mountpoint);
        let sql = "SELECT name, parent_1, parent_2 FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        let mut up = self.database.prepare_cached(sql).map_err(|e| self.failure(e))?;
        let mut names = Vec::new();
        let mut length = self.mountpoint.as_bytes().len();
        loop {
            length += 1 + at.name.len();
            names.push(at.name);
            // A malicious catalog may contain a circle; a path that is too long is refused below.
            if at.parent == top || length > MAX_LEN {
                break;
            }
            let parent = up.query_row(at.parent, Node::read).optional().map_err(|e| self.failure(e))?;
            at = parent.ok_or_else(|| self.wrong("an entry is in a directory that does not exist"))?;
        }
        let mut path = self.mountpoint.clone();
        for name in names.iter().rev() {
            path = path.join(name)?;
        }
        Ok(path)
    }

    fn entry(&self, row: &Row<'_>) -> Result<Entry, CvmfsError> {
        let raw = RawEntry::read(row).map_err(|e| self.failure(e))?;
        let chunks = if raw.is_chunked() { self.chunks(&raw).map_err(|e| self.failure(e))? } else { Vec::new() };
        raw.entry(chunks).map_err(|error| self.wrong(error.to_string()))
    }

    fn chunks(&self, raw: &RawEntry) -> rusqlite::Result<Vec<RawChunk>> {
        let sql = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY offset";
        let mut statement = self.database.prepare_cached(sql)?;
        statement.query_map(raw.md5, RawChunk::read)?.collect()
    }

    fn failure(&self, error: rusqlite::Error) -> CvmfsError {
        failure(&self.mountpoint, error)
    }

    fn wrong(&self, reason: impl Into<String>) -> CvmfsError {
        CvmfsError::Catalog { mountpoint: self.mountpoint.to_string(), reason: reason.into() }
    }
}

/// A name and the key of its parent directory.
struct Node {
    name: Vec<u8>,
    parent: (i64, i64),
}

impl Node {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get_ref(0)?.as_bytes()?.to_vec(), parent: (row.get(1)?, row.get(2)?) })
    }
}

fn failure(mountpoint: &RootPath, error: rusqlite::Error) -> CvmfsError {
    CvmfsError::Catalog { mountpoint: mountpoint.to_string(), reason: error.to_string() }
}

fn nested_catalogs(
    database: &Connection,
    mountpoint: &RootPath,
) -> Result<BTreeMap<RootPath, (ContentHash, u64)>, CvmfsError> {
    let fail = |e: rusqlite::Error| failure(mountpoint, e);
    let mut nested = BTreeMap::new();
    // Bind mountpoints lead to root catalogs of older snapshots; readers treat them as nested catalogs.
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

/// The key of a path: the MD5 of its text (empty for the root), as two little-endian integers.
fn md5_of(path: &RootPath) -> (i64, i64) {
    let text = if path.as_bytes() == b"/" { b"" } else { path.as_bytes() };
    let digest: [u8; 16] = Md5::digest(text).into();
    let (high, low) = digest.split_at(8);
    let number = |half: &[u8]| i64::from_le_bytes(half.try_into().unwrap_or_default());
    (number(high), number(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    /// A catalog for `/layer` with these paths, each in the given parent directory.
    fn catalog(entries: &[(&str, &str)]) -> Catalog {
        let database = Connection::open_in_memory().unwrap();
        let table = "CREATE TABLE catalog (md5path_1, md5path_2, parent_1, parent_2, hash, size, mode, mtime, flags, name TEXT, \
                     symlink, uid, gid)";
        database.execute(table, ()).unwrap();
        for (entry, parent) in entries {
            let (entry, name) = (path(entry), path(entry).name().to_vec());
            let row = (md5_of(&entry), md5_of(&path(parent)), String::from_utf8(name).unwrap());
            let sql = "INSERT INTO catalog VALUES (?1, ?2, ?3, ?4, NULL, 0, 16877, 7, 1, ?5, NULL, 0, 0)";
            database.execute(sql, (row.0.0, row.0.1, row.1.0, row.1.1, row.2)).unwrap();
        }
        Catalog::open(path("/layer"), &database.serialize("main").unwrap()).unwrap()
    }

    #[test]
    fn whiteouts_are_found_in_all_directories() {
        let catalog = catalog(&[
            ("/layer", "/"),
            ("/layer/.wh.b", "/layer"),
            ("/layer/.wha", "/layer"),
            ("/layer/.wi.a", "/layer"),
            ("/layer/a.wh.a", "/layer"),
            ("/layer/usr", "/layer"),
            ("/layer/usr/lib", "/layer/usr"),
            ("/layer/usr/lib/.wh..wh..opq", "/layer/usr/lib"),
            ("/layer/usr/.wh.~", "/layer/usr"),
        ]);
        let found: Vec<_> = catalog.whiteouts().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["/layer/.wh.b", "/layer/usr/.wh.~", "/layer/usr/lib/.wh..wh..opq"]);
        // This catalog has no column for nanoseconds.
        assert_eq!(catalog.lookup(&path("/layer/usr")).unwrap().unwrap().mtime, (7, 0));
    }

    #[test]
    fn orphaned_and_circular_whiteouts_are_errors() {
        let orphaned = catalog(&[("/layer/x/.wh.a", "/layer/x")]).whiteouts().unwrap_err().to_string();
        assert!(orphaned.contains("a directory that does not exist"), "{orphaned}");
        let circle = catalog(&[("/layer/x/.wh.a", "/layer/x"), ("/layer/x", "/layer/y"), ("/layer/y", "/layer/x")]);
        assert!(matches!(circle.whiteouts(), Err(CvmfsError::Path(_))));
    }
}
