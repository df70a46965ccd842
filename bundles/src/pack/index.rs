//! The index of a pack: its objects and their offsets.

use sha2::{Digest as _, Sha256};

use super::{FORMAT, HEADER, MAX_OBJECT, MAX_OBJECTS};
use crate::codec::{Decode, Encode, FormatError};
use crate::object::{ContentHash, HashAlgorithm, ObjectKind};

/// Largest index that is read, decompressed: 64 bytes per object.
const MAX_INDEX: usize = 64 << 20;

/// Largest growth of an index on decompression: nearly all of it is hashes, which do not compress.
const MAX_RATIO: usize = 20;

/// An object of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedObject {
    /// Hash that names the object.
    pub hash: ContentHash,
    /// File or chunk.
    pub kind: ObjectKind,
    /// Offset of the stored bytes in the pack file.
    pub offset: u64,
    /// Size on the server in bytes, which is also the size in the pack.
    pub stored_size: u64,
    /// Size in a cache in bytes.
    pub raw_size: u64,
}

impl PackedObject {
    /// A file with these stored bytes, at offset 0: [`super::assemble`] sets offsets.
    pub fn file(stored: &[u8], raw_size: u64) -> Self {
        let (hash, stored_size) = (ContentHash::sha1_of(stored), stored.len() as u64);
        Self { hash, kind: ObjectKind::File, offset: 0, stored_size, raw_size }
    }
}

/// The objects of a pack, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    objects: Vec<PackedObject>,
    end: u64,
}

/// The index as it is in the file: one column per field. Offsets follow from the sizes.
#[derive(Debug, Default, Encode, Decode)]
#[bincode(crate = "crate::codec")]
struct Columns {
    hashes: Vec<u8>,
    names: Vec<(HashAlgorithm, ObjectKind)>,
    stored_sizes: Vec<u64>,
    raw_sizes: Vec<u64>,
}

impl Index {
    /// The objects, in the order of the file.
    pub fn objects(&self) -> &[PackedObject] {
        &self.objects
    }

    /// Size of the whole file in bytes.
    pub fn file_size(&self) -> u64 {
        self.end
    }

    /// How many bytes at the beginning of a file hold its header and index. The first [`HEADER`] bytes say
    /// so.
    pub fn extent(header: &[u8]) -> Result<usize, FormatError> {
        FORMAT.minor_of(header)?;
        let have = header.len() as u64;
        let truncated = FormatError::Truncated { kind: FORMAT.name, have, want: HEADER as u64 };
        let length = header.get(..HEADER).and_then(|header| header[8..].first_chunk::<8>()).ok_or(truncated)?;
        match u64::from_le_bytes(*length) {
            size if size > MAX_INDEX as u64 => Err(FormatError::TooLarge { kind: "index of a pack", size }),
            length => Ok(HEADER + length as usize),
        }
    }

    /// Decodes the index at the beginning of a file.
    pub fn from_bytes(file: &[u8]) -> Result<Self, FormatError> {
        let minor = FORMAT.minor_of(file)?;
        let end = Self::extent(file)?;
        let truncated = || FormatError::Truncated { kind: FORMAT.name, have: file.len() as u64, want: end as u64 };
        let stored = file.get(HEADER..end).ok_or_else(truncated)?;
        if Sha256::digest(stored)[..] != file[16..HEADER] {
            return Err(FormatError::Checksum { kind: FORMAT.name });
        }
        let most = (stored.len().saturating_mul(MAX_RATIO)).min(MAX_INDEX);
        let raw = zstd::bulk::decompress(stored, most).map_err(|e| FORMAT.content(format!("its index: {e}")))?;
        Self::from_columns(FORMAT.decode_all::<Columns, { 4 * MAX_INDEX }>(&raw, minor)?, end as u64)
    }

    fn from_columns(columns: Columns, start: u64) -> Result<Self, FormatError> {
        let count = columns.names.len();
        let lengths = [columns.hashes.len() / 20, columns.stored_sizes.len(), columns.raw_sizes.len()];
        if count > MAX_OBJECTS {
            return Err(FORMAT.content(format!("{count} objects, at most {MAX_OBJECTS} are allowed")));
        }
        let (digests, rest) = columns.hashes.as_chunks::<20>();
        if lengths.iter().any(|length| *length != count) || !rest.is_empty() {
            return Err(FORMAT.content(format!("its columns have {lengths:?} entries, expected {count} each")));
        }
        let (mut objects, mut end) = (Vec::with_capacity(count), start);
        for (object, digest) in digests.iter().enumerate() {
            let ((algorithm, kind), stored_size) = (columns.names[object], columns.stored_sizes[object]);
            let hash = ContentHash { algorithm, digest: *digest };
            if stored_size > MAX_OBJECT {
                let reason = format!("object {hash} has {stored_size} bytes, at most {MAX_OBJECT} are allowed");
                return Err(FORMAT.content(reason));
            }
            objects.push(PackedObject { hash, kind, offset: end, stored_size, raw_size: columns.raw_sizes[object] });
            end += stored_size;
        }
        Ok(Self { objects, end })
    }

    /// Encodes the beginning of a pack file with `objects`, whose offsets are ignored, and returns it with
    /// its index.
    pub(super) fn head(objects: &[PackedObject]) -> Result<(Vec<u8>, Self), FormatError> {
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
