//! Rows of a catalog.

use rusqlite::Row;
use rusqlite::types::ValueRef::{Blob, Text};

use super::{Chunk, Content, ContentError, Entry, EntryKind};
use crate::object::{ContentHash, HashAlgorithm};

const FLAG_DIRECTORY: u32 = 1;
const FLAG_FILE: u32 = 4;
const FLAG_LINK: u32 = 8;
const FLAG_SPECIAL: u32 = 16;
const FLAG_CHUNKED: u32 = 64;
const FLAG_EXTERNAL: u32 = 128;
const HASH_SHIFT: u32 = 8;
const COMPRESSION_SHIFT: u32 = 11;

/// The columns of [`RawEntry`], in its order, without the last one.
pub(super) const COLUMNS: &str = "md5path_1, md5path_2, hash, size, mode, mtime, flags, name, symlink, uid, gid";
/// The last column, which older catalogs do not have.
pub(super) const NANOSECONDS: &str = "mtimens";

/// A row of the table `catalog`.
#[derive(Debug, Default)]
pub struct RawEntry {
    /// Key of the path.
    pub md5: (i64, i64),
    /// Digest of the object.
    pub hash: Vec<u8>,
    /// Size of the file in bytes.
    pub size: u64,
    /// Type and permission bits, as `stat` returns them.
    pub mode: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Flags: what it is, and how its objects are hashed and compressed.
    pub flags: u32,
    /// Last component of the path.
    pub name: Vec<u8>,
    /// Target of a symbolic link.
    pub symlink: Vec<u8>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Nanoseconds of the modification time.
    pub mtime_ns: u32,
}

/// A row of the table `chunks`.
#[derive(Debug)]
pub struct RawChunk {
    /// Offset in the file.
    pub offset: u64,
    /// Size in bytes, decompressed.
    pub size: u64,
    /// Digest of its object.
    pub hash: Vec<u8>,
}

impl RawEntry {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bytes = |column: usize| -> rusqlite::Result<Vec<u8>> {
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
            mtime_ns: nanoseconds(row.get(11)?),
        })
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.flags & FLAG_CHUNKED != 0
    }

    /// The entry that the row describes, with the rows of its chunks in order of their offsets.
    pub fn entry(self, chunks: Vec<RawChunk>) -> Result<Entry, EntryError> {
        let name = self.name.clone();
        self.parse(chunks).map_err(|reason| EntryError { name: String::from_utf8_lossy(&name).into_owned(), reason })
    }

    fn parse(self, chunks: Vec<RawChunk>) -> Result<Entry, ContentError> {
        let kind = if self.flags & FLAG_DIRECTORY != 0 {
            EntryKind::Directory
        } else if self.flags & FLAG_LINK != 0 {
            EntryKind::Symlink(self.symlink)
        } else if self.flags & FLAG_SPECIAL != 0 || self.mode & 0o170000 != 0o100000 {
            EntryKind::Special
        } else if self.flags & FLAG_FILE != 0 {
            EntryKind::File(self.content(chunks)?)
        } else {
            return Err(ContentError::Flags(self.flags));
        };
        let Self { name, mode, size, mtime, mtime_ns, uid, gid, .. } = self;
        Ok(Entry { name, kind, mode, size, mtime: (mtime, mtime_ns), uid, gid })
    }

    fn content(&self, chunks: Vec<RawChunk>) -> Result<Content, ContentError> {
        let compressed = (self.flags >> COMPRESSION_SHIFT) & 7 == 0;
        if self.flags & FLAG_EXTERNAL != 0 {
            return Ok(Content::External);
        }
        if !self.is_chunked() {
            return Ok(Content::Whole { hash: self.object(&self.hash)?, compressed });
        }
        let chunk = |raw: RawChunk| Ok(Chunk { offset: raw.offset, size: raw.size, hash: self.object(&raw.hash)? });
        let chunks = chunks.into_iter().map(chunk).collect::<Result<Vec<_>, ContentError>>()?;
        Chunk::check_coverage(&chunks, self.size)?;
        Ok(Content::Chunks { chunks, compressed })
    }

    fn object(&self, digest: &[u8]) -> Result<ContentHash, ContentError> {
        let algorithm = match (self.flags >> HASH_SHIFT) & 7 {
            0 => HashAlgorithm::Sha1,
            1 => HashAlgorithm::Rmd160,
            2 => HashAlgorithm::Shake128,
            other => return Err(ContentError::Algorithm(other)),
        };
        let digest = digest.try_into().map_err(|_| ContentError::HashLength(digest.len()))?;
        Ok(ContentHash { algorithm, digest })
    }
}

/// A row that cannot be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {name:?}: {reason}")]
pub struct EntryError {
    name: String,
    reason: ContentError,
}

/// The nanoseconds of a row; 0 if the publisher did not know them, or if they are out of range.
fn nanoseconds(value: Option<i64>) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value < 1_000_000_000).unwrap_or_default()
}

impl RawChunk {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { offset: row.get::<_, i64>(0)? as u64, size: row.get::<_, i64>(1)? as u64, hash: row.get(2)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_nanoseconds_are_0() {
        for (value, expected) in
            [(None, 0), (Some(-1), 0), (Some(7), 7), (Some(999_999_999), 999_999_999), (Some(1_000_000_000), 0)]
        {
            assert_eq!(nanoseconds(value), expected, "{value:?}");
        }
    }
}
