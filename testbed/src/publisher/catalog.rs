//! Catalogs: SQLite databases, schema 2.5, one for each directory in which one begins.

use std::iter::zip;

use anyhow::Result;
use bundles::object::{ContentHash, ObjectKind};
use rusqlite::{Connection, Statement, params};

use super::objects::Objects;
use super::tree::{Attributes, Content, Directory, Node, path_hash};
use super::written::{COUNTERS, Counts, Written};

const SCHEMA: &str = "
PRAGMA page_size = 4096;
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER, \
 hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT, \
 uid INTEGER, gid INTEGER, xattr BLOB,  CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER,  hash BLOB,  \
 CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size),  FOREIGN KEY (md5path_1, md5path_2) \
 REFERENCES    catalog(md5path_1, md5path_2));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));";

/// Names are bytes to us and text to SQLite, which must not change them: hence the casts.
const INSERT_ENTRY: &str = "INSERT INTO catalog (md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, \
 mtime, mtimens, flags, name, symlink, uid, gid, xattr) \
 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10, CAST(?11 AS TEXT), CAST(?12 AS TEXT), ?13, ?14, NULL)";
const INSERT_CHUNK: &str = "INSERT INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
const INSERT_NESTED: &str = "INSERT INTO nested_catalogs (path, sha1, size) VALUES (CAST(?1 AS TEXT), ?2, ?3)";

const DIRECTORY: u32 = 1;
const NESTED_MOUNTPOINT: u32 = 2;
const FILE: u32 = 4;
const LINK: u32 = 8;
const SPECIAL: u32 = 16;
const NESTED_ROOT: u32 = 32;
const CHUNKED: u32 = 64;
// Bits 8 to 10, the hash algorithm, and 11 to 13, the compression, are 0: SHA-1 and zlib.

/// Writes the changed catalogs below `root`, the repository's root directory, and returns the root catalog. Their hashes are
/// added to `written`.
pub(super) fn write(
    (root, attributes): (&mut Directory, &Attributes),
    objects: &Objects,
    now: u64,
    revision: u64,
    written: &mut Vec<ContentHash>,
) -> Result<Written> {
    // The root catalog counts revisions of the repository and is new in each.
    root.catalog.written = None;
    root.catalog.revision = revision - 1;
    write_one((root, attributes), b"", &mut Run { objects, now, written })
}

struct Run<'a> {
    objects: &'a Objects,
    now: u64,
    written: &'a mut Vec<ContentHash>,
}

fn write_one(
    (directory, attributes): (&mut Directory, &Attributes),
    path: &[u8],
    run: &mut Run<'_>,
) -> Result<Written> {
    if let Some(written) = &directory.catalog.written {
        return Ok(written.clone());
    }
    let revision = directory.catalog.revision + 1;
    let database = Connection::open_in_memory()?;
    database.execute_batch(SCHEMA)?;
    database.execute_batch("BEGIN")?;
    let (own, below) = {
        let mut rows = Rows::prepare(&database)?;
        let flags = if path.is_empty() { DIRECTORY } else { DIRECTORY | NESTED_ROOT };
        rows.directory(path, (directory, attributes), flags)?;
        rows.children(path, directory, run)?;
        (rows.own, rows.below)
    };
    let previous = directory.catalog.previous.map_or_else(|| "0".repeat(40), |hash| hash.to_string());
    write_properties(&database, path, run.now, revision, &previous)?;
    write_statistics(&database, &own, &below)?;
    database.execute_batch("COMMIT")?;
    let bytes = database.serialize("main")?;
    let stored = run.objects.put(&bytes, ObjectKind::Catalog)?;
    run.written.push(stored.hash);
    let mut counts = own;
    counts.add_all(&below);
    let written = Written { hash: stored.hash, size: stored.raw_size, counts };
    directory.catalog.revision = revision;
    directory.catalog.previous = Some(stored.hash);
    directory.catalog.written = Some(written.clone());
    Ok(written)
}

fn write_properties(database: &Connection, path: &[u8], now: u64, revision: u64, previous: &str) -> Result<()> {
    let mut insert = database.prepare("INSERT INTO properties (key, value) VALUES (?1, CAST(?2 AS TEXT))")?;
    insert.execute(("schema", "2.5"))?;
    insert.execute(("schema_revision", "7"))?;
    match path {
        b"" => insert.execute(("TTL", super::TIME_TO_LIVE.to_string()))?,
        prefix => insert.execute(("root_prefix", prefix))?,
    };
    insert.execute(("last_modified", now.to_string()))?;
    insert.execute(("revision", revision.to_string()))?;
    insert.execute(("previous_revision", previous))?;
    Ok(())
}

fn write_statistics(database: &Connection, own: &Counts, below: &Counts) -> Result<()> {
    let mut insert = database.prepare("INSERT INTO statistics (counter, value) VALUES (?1, ?2)")?;
    for (prefix, counts) in [("self", own), ("subtree", below)] {
        for (name, value) in zip(COUNTERS, counts.0) {
            insert.execute((format!("{prefix}_{name}"), value as i64))?;
        }
    }
    Ok(())
}

/// The rows of one catalog.
struct Rows<'d> {
    entry: Statement<'d>,
    chunk: Statement<'d>,
    nested: Statement<'d>,
    own: Counts,
    below: Counts,
}

impl<'d> Rows<'d> {
    fn prepare(database: &'d Connection) -> Result<Self> {
        Ok(Self {
            entry: database.prepare(INSERT_ENTRY)?,
            chunk: database.prepare(INSERT_CHUNK)?,
            nested: database.prepare(INSERT_NESTED)?,
            own: Counts::default(),
            below: Counts::default(),
        })
    }

    fn children(&mut self, path: &[u8], directory: &mut Directory, run: &mut Run<'_>) -> Result<()> {
        for (name, node) in &mut directory.children {
            let path = [path, b"/", name].concat();
            let attributes = node.attributes;
            match &mut node.content {
                Content::Directory(child) if child.is_marked() => {
                    let written = write_one((child, &attributes), &path, run)?;
                    self.directory(&path, (child, &attributes), DIRECTORY | NESTED_MOUNTPOINT)?;
                    self.nested.execute(params![path, written.hash.to_string(), written.size as i64])?;
                    self.own.add("nested", 1);
                    self.below.add_all(&written.counts);
                }
                Content::Directory(child) => {
                    self.directory(&path, (child, &attributes), DIRECTORY)?;
                    self.children(&path, child, run)?;
                }
                _ => self.other(&path, node)?,
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], (directory, attributes): (&Directory, &Attributes), flags: u32) -> Result<()> {
        self.own.add("dir", 1);
        let children = directory.children.values();
        let directories = children.filter(|node| matches!(node.content, Content::Directory(_))).count();
        let row = Row { links: 2 + directories as u64, size: 4096, kind: 0o040_000, flags, hash: None, symlink: b"" };
        self.insert(path, attributes, &row)
    }

    fn other(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let row = match &node.content {
            Content::Directory(_) => unreachable!("directories have their own rows"),
            Content::File(stored) => {
                self.own.add("regular", 1);
                self.own.add("file_size", stored.raw_size);
                Row { size: stored.raw_size, hash: Some(stored.hash.digest), ..Row::new(0o100_000, FILE) }
            }
            Content::Chunked { size, chunks } => {
                let counts = [("regular", 1), ("chunked", 1), ("chunks", chunks.len() as u64)];
                for (counter, by) in counts.into_iter().chain([("file_size", *size), ("chunked_size", *size)]) {
                    self.own.add(counter, by);
                }
                Row { size: *size, ..Row::new(0o100_000, FILE | CHUNKED) }
            }
            Content::Link { target, size } => {
                self.own.add("symlink", 1);
                Row { size: *size, symlink: target, ..Row::new(0o120_000, FILE | LINK) }
            }
            Content::Special { kind, device } => {
                self.own.add("special", 1);
                Row { size: *device, ..Row::new(*kind, FILE | SPECIAL) }
            }
        };
        self.insert(path, &node.attributes, &row)?;
        if let Content::Chunked { chunks, .. } = &node.content {
            let (high, low) = path_hash(path);
            for chunk in chunks {
                let (offset, size) = (chunk.offset as i64, chunk.stored.raw_size as i64);
                self.chunk.execute(params![high, low, offset, size, chunk.stored.hash.digest])?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: &[u8], attributes: &Attributes, row: &Row<'_>) -> Result<()> {
        let (high, low) = path_hash(path);
        let cut = path.iter().rposition(|byte| *byte == b'/');
        // The root has neither parent nor name.
        let (parent, name) = cut.map_or(((0, 0), path), |cut| (path_hash(&path[..cut]), &path[cut + 1..]));
        self.entry.execute(params![
            high,
            low,
            parent.0,
            parent.1,
            row.links as i64,
            row.hash,
            row.size as i64,
            row.kind | attributes.mode,
            attributes.mtime,
            row.flags,
            name,
            row.symlink,
            attributes.uid,
            attributes.gid,
        ])?;
        Ok(())
    }
}

/// Columns that depend on the kind of entry.
struct Row<'a> {
    links: u64,
    size: u64,
    /// Type bits of the mode.
    kind: u32,
    flags: u32,
    hash: Option<[u8; 20]>,
    symlink: &'a [u8],
}

impl Row<'_> {
    fn new(kind: u32, flags: u32) -> Self {
        Self { links: 1, size: 0, kind, flags, hash: None, symlink: b"" }
    }
}
