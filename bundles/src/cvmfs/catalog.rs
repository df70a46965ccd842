//! File catalogs: SQLite databases that list a sub-tree. Source: `cvmfs/catalog_sql.h`, schema 2.5.

mod row;

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use rusqlite::{Connection, OptionalExtension, Row};

use super::CvmfsError;
use crate::object::ContentHash;
use crate::path::{MAX_LEN, RootPath};

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
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
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
    /// What to select of an entry.
    columns: String,
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
        let knows = database.column_exists(None, "catalog", row::NANOSECONDS).map_err(fail)?;
        let columns = format!("{}, {}", row::COLUMNS, if knows { row::NANOSECONDS } else { "NULL" });
        Ok(Self { database, mountpoint, columns, nested })
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
        let sql = format!("SELECT {} FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2", self.columns);
        let mut statement = self.database.prepare_cached(&sql).map_err(|e| self.failure(e))?;
        let row = statement.query_row((high, low), |row| Ok(self.entry(row))).optional();
        row.map_err(|e| self.failure(e))?.transpose()
    }

    /// The entries of the directory `path`, in order of their names.
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

    /// The catalogs that take over below.
    pub(super) fn nested(&self) -> impl Iterator<Item = (&RootPath, ContentHash, u64)> {
        self.nested.iter().map(|(mountpoint, (hash, size))| (mountpoint, *hash, *size))
    }

    /// The paths in this catalog whose names begin with `.wh.`, in order.
    pub(super) fn whiteouts(&self) -> Result<Vec<RootPath>, CvmfsError> {
        // The next name that does not begin so is `.wh/`: compared by bytes, for there is no index of names anyway.
        let sql = "SELECT name, parent_1, parent_2 FROM catalog WHERE name >= '.wh.' AND name < '.wh/'";
        let mut statement = self.database.prepare_cached(sql).map_err(|e| self.failure(e))?;
        let rows = statement.query_map((), Place::read).map_err(|e| self.failure(e))?;
        let places = rows.collect::<Result<Vec<_>, _>>().map_err(|e| self.failure(e))?;
        let mut paths = places.into_iter().map(|place| self.path(place)).collect::<Result<Vec<_>, _>>()?;
        paths.sort_unstable();
        Ok(paths)
    }

    /// The path of an entry, found by going up to the catalog's own directory.
    fn path(&self, mut at: Place) -> Result<RootPath, CvmfsError> {
        let top = md5_of(&self.mountpoint);
        let sql = "SELECT name, parent_1, parent_2 FROM catalog WHERE md5path_1 = ?1 AND md5path_2 = ?2";
        let mut up = self.database.prepare_cached(sql).map_err(|e| self.failure(e))?;
        let mut names = Vec::new();
        let mut length = self.mountpoint.as_bytes().len();
        loop {
            length += 1 + at.name.len();
            names.push(at.name);
            // A catalog may lead in a circle; what is too long is refused below.
            if at.parent == top || length > MAX_LEN {
                break;
            }
            let parent = up.query_row(at.parent, Place::read).optional().map_err(|e| self.failure(e))?;
            at = parent.ok_or_else(|| self.wrong("an entry is in a directory that is not there"))?;
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
        raw.entry(chunks).map_err(|why| self.wrong(why))
    }

    fn chunks(&self, raw: &RawEntry) -> rusqlite::Result<Vec<RawChunk>> {
        let sql = "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY offset";
        let mut statement = self.database.prepare_cached(sql)?;
        statement.query_map(raw.md5, RawChunk::read)?.collect()
    }

    fn failure(&self, error: rusqlite::Error) -> CvmfsError {
        failure(&self.mountpoint, error)
    }

    fn wrong(&self, why: impl Into<String>) -> CvmfsError {
        CvmfsError::Catalog { mountpoint: self.mountpoint.to_string(), why: why.into() }
    }
}

/// A name, and the key of the directory it is in.
struct Place {
    name: Vec<u8>,
    parent: (i64, i64),
}

impl Place {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get_ref(0)?.as_bytes()?.to_vec(), parent: (row.get(1)?, row.get(2)?) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::new(text).unwrap()
    }

    /// A catalog for `/layer` with these paths, each in the directory given.
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
    fn whiteouts_are_found_wherever_they_are() {
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
        // This catalog is of before there were nanoseconds.
        assert_eq!(catalog.lookup(&path("/layer/usr")).unwrap().unwrap().mtime, (7, 0));
    }

    #[test]
    fn whiteouts_that_hang_in_the_air_or_in_a_circle_are_errors() {
        let in_the_air = catalog(&[("/layer/x/.wh.a", "/layer/x")]).whiteouts().unwrap_err().to_string();
        assert!(in_the_air.contains("a directory that is not there"), "{in_the_air}");
        let circle = catalog(&[("/layer/x/.wh.a", "/layer/x"), ("/layer/x", "/layer/y"), ("/layer/y", "/layer/x")]);
        assert!(matches!(circle.whiteouts(), Err(CvmfsError::Path(_))));
    }
}
