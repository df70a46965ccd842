//! One entry of a catalog, as the mount shows it.

use anyhow::{Context, Result};
use bundles::object::{ContentHash, HashAlgorithm, ObjectKind};
use cvmfs::directory_entry::{Chunk, DirectoryEntry};
use fuser::FileType;

use super::objects::Object;

/// Bits of a catalog's `flags`; source: `catalog_sql.h` of CVMFS. (The crate has wrong values for some.)
const FLAG_CHUNKED: u32 = 1 << 6;
const HASH_ALGORITHM: u32 = 8;
const COMPRESSION: u32 = 11;
const THREE_BITS: u32 = 0b111;
const NOT_COMPRESSED: u32 = 1;

/// Names come apart from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: FileType,
    pub(super) permissions: u16,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// A device's number, stored in the column of the size.
    pub(super) device: u32,
    /// A symbolic link's target.
    pub(super) target: Option<String>,
    /// The whole file as one object.
    pub(super) hash: Option<ContentHash>,
    pub(super) chunked: bool,
    pub(super) compressed: bool,
}

impl Entry {
    pub(super) fn new(row: &DirectoryEntry) -> Result<Self> {
        let target = row.is_symlink().then(|| row.symlink.clone().unwrap_or_default());
        let hash = row.content_hash.as_deref().filter(|_| row.is_file()).map(|hex| content_hash(hex, row.flags));
        let kind = kind(row);
        let (size, device) = match kind {
            FileType::BlockDevice | FileType::CharDevice => (0, row.size as u32),
            _ => (target.as_ref().map_or(row.size as u64, |target| target.len() as u64), 0),
        };
        Ok(Self {
            kind,
            permissions: row.mode & 0o7777,
            size,
            device,
            modified: row.mtime,
            links: row.nlink(),
            uid: row.uid,
            gid: row.gid,
            target,
            hash: hash.transpose()?,
            chunked: row.flags & FLAG_CHUNKED != 0,
            compressed: (row.flags >> COMPRESSION) & THREE_BITS != NOT_COMPRESSED,
        })
    }

    /// The object with a file's content; `None` for a chunked file.
    pub(super) fn object(&self) -> Option<Object> {
        let hash = self.hash.filter(|_| !self.chunked)?;
        Some(Object { hash, kind: ObjectKind::File, size: Some(self.size), compressed: self.compressed })
    }
}

/// A piece of a chunked file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) object: Object,
}

impl Piece {
    pub(super) fn new(chunk: &Chunk, file: &DirectoryEntry) -> Result<Self> {
        let hash = content_hash(&chunk.content_hash, file.flags)?;
        let compressed = (file.flags >> COMPRESSION) & THREE_BITS != NOT_COMPRESSED;
        let size = chunk.size as u64;
        let object = Object { hash, kind: ObjectKind::Chunk, size: Some(size), compressed };
        Ok(Self { offset: chunk.offset as u64, size, object })
    }
}

fn content_hash(hex: &str, flags: u32) -> Result<ContentHash> {
    let algorithm = match (flags >> HASH_ALGORITHM) & THREE_BITS {
        0 => HashAlgorithm::Sha1,
        1 => HashAlgorithm::Rmd160,
        2 => HashAlgorithm::Shake128,
        other => anyhow::bail!("unknown hash algorithm {other} in a catalog"),
    };
    let mut digest = [0; 20];
    hex::decode_to_slice(hex, &mut digest).with_context(|| format!("bad hash {hex:?} in a catalog"))?;
    Ok(ContentHash { algorithm, digest })
}

fn kind(row: &DirectoryEntry) -> FileType {
    const TYPE: u16 = 0o170_000;
    match row.mode & TYPE {
        _ if row.is_directory() => FileType::Directory,
        _ if row.is_symlink() => FileType::Symlink,
        0o140_000 => FileType::Socket,
        0o060_000 => FileType::BlockDevice,
        0o020_000 => FileType::CharDevice,
        0o010_000 => FileType::NamedPipe,
        _ => FileType::RegularFile,
    }
}
