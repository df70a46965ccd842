//! What is in a pack, and where.

use bincode::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use super::{FORMAT, HEADER, MAX_OBJECT, MAX_OBJECTS};
use crate::codec::BadFile;
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};

/// The largest index that is read, decompressed: 64 bytes an object.
const MAX_INDEX: usize = 64 << 20;

/// The most that an index may grow when it is decompressed: nearly all of it are hashes, which do not compress.
const MAX_RATIO: usize = 20;

/// One object of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Its name.
    pub hash: ContentHash,
    /// File or chunk.
    pub kind: ObjectKind,
    /// Where its stored bytes begin in the pack file.
    pub offset: u64,
    /// Bytes on the server.
    pub stored_size: u64,
    /// Bytes in a cache.
    pub raw_size: u64,
}

impl Packed {
    /// A file with these bytes on the server, wherever it will be in a pack.
    pub fn file(stored: &[u8], raw_size: u64) -> Self {
        let (hash, stored_size) = (ContentHash::sha1_of(stored), stored.len() as u64);
        Self { hash, kind: ObjectKind::File, offset: 0, stored_size, raw_size }
    }
}

/// The objects of a pack, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    objects: Vec<Packed>,
    end: u64,
}

/// The index as it is in the file: a column for each field. Offsets follow from the sizes.
#[derive(Debug, Default, Encode, Decode)]
struct Columns {
    hashes: Vec<u8>,
    names: Vec<(HashAlgorithm, ObjectKind)>,
    stored_sizes: Vec<u64>,
    raw_sizes: Vec<u64>,
}

impl Index {
    /// The objects, in the order of the file.
    pub fn objects(&self) -> &[Packed] {
        &self.objects
    }

    /// Bytes of the whole file.
    pub fn file_size(&self) -> u64 {
        self.end
    }

    /// How many bytes from the beginning of a file hold its index; the file's first [`HEADER`] bytes tell.
    pub fn extent(header: &[u8]) -> Result<usize, BadFile> {
        FORMAT.minor_of(header)?;
        let have = header.len() as u64;
        let truncated = BadFile::Truncated { kind: FORMAT.name, have, want: HEADER as u64 };
        let length = header.get(..HEADER).and_then(|header| header[8..].first_chunk::<8>()).ok_or(truncated)?;
        match u64::from_le_bytes(*length) {
            size if size > MAX_INDEX as u64 => Err(BadFile::TooLarge { kind: "index of a pack", size }),
            length => Ok(HEADER + length as usize),
        }
    }

    /// Reads the index at the beginning of a file.
    pub fn from_bytes(file: &[u8]) -> Result<Self, BadFile> {
        let minor = FORMAT.minor_of(file)?;
        let end = Self::extent(file)?;
        let truncated = || BadFile::Truncated { kind: FORMAT.name, have: file.len() as u64, want: end as u64 };
        let stored = file.get(HEADER..end).ok_or_else(truncated)?;
        if Sha256::digest(stored)[..] != file[16..HEADER] {
            return Err(BadFile::Checksum { kind: FORMAT.name });
        }
        let most = (stored.len().saturating_mul(MAX_RATIO)).min(MAX_INDEX);
        let raw = zstd::bulk::decompress(stored, most).map_err(|e| FORMAT.content(format!("its index: {e}")))?;
        Self::from_columns(FORMAT.decode_all::<Columns, { 4 * MAX_INDEX }>(&raw, minor)?, end as u64)
    }

    fn from_columns(columns: Columns, start: u64) -> Result<Self, BadFile> {
        let count = columns.names.len();
        let lengths = [columns.hashes.len() / 20, columns.stored_sizes.len(), columns.raw_sizes.len()];
        if count > MAX_OBJECTS {
            return Err(FORMAT.content(format!("{count} objects, at most {MAX_OBJECTS} are allowed")));
        }
        let (digests, rest) = columns.hashes.as_chunks::<20>();
        if lengths.iter().any(|length| *length != count) || !rest.is_empty() {
            return Err(FORMAT.content(format!("its columns have {lengths:?} entries, the first has {count}")));
        }
        let (mut objects, mut end) = (Vec::with_capacity(count), start);
        for (place, digest) in digests.iter().enumerate() {
            let ((algorithm, kind), stored_size) = (columns.names[place], columns.stored_sizes[place]);
            let hash = ContentHash { algorithm, digest: *digest };
            if stored_size > MAX_OBJECT {
                let why = format!("object {hash} has {stored_size} bytes, at most {MAX_OBJECT} are allowed");
                return Err(FORMAT.content(why));
            }
            objects.push(Packed { hash, kind, offset: end, stored_size, raw_size: columns.raw_sizes[place] });
            end += stored_size;
        }
        Ok(Self { objects, end })
    }

    /// The beginning of a pack file with `objects`, whose offsets do not matter, and its index.
    pub(super) fn head(objects: &[Packed]) -> Result<(Vec<u8>, Self), BadFile> {
        let columns = Columns {
            hashes: objects.iter().flat_map(|object| object.hash.digest).collect(),
            names: objects.iter().map(|object| (object.hash.algorithm, object.kind)).collect(),
            stored_sizes: objects.iter().map(|object| object.stored_size).collect(),
            raw_sizes: objects.iter().map(|object| object.raw_size).collect(),
        };
        let raw = FORMAT.encode(&columns)?;
        let stored = zstd::bulk::compress(&raw, 17).map_err(|e| FORMAT.content(e.to_string()))?;
        let mut head = FORMAT.start().to_vec();
        head.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        head.extend_from_slice(&Sha256::digest(&stored));
        head.extend_from_slice(&stored);
        let index = Self::from_columns(columns, head.len() as u64)?;
        Ok((head, index))
    }
}
