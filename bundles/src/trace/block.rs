//! Blocks of a trace file: each compressed, checksummed, and chained to the blocks before it.
//!
//! ```text
//! offset  size  content
//!      0     1  kind: 1 head, 2 records, 3 end
//!      1     1  compression: 0 none, 1 zstd
//!      2     2  reserved, 0
//!      4     4  stored size n, little endian; not above the raw size
//!      8     4  raw size, little endian; at most 1 MiB
//!     12     n  stored bytes
//!   12+n    32  SHA-256 of the checksum of the block before (for the first block: of the file's first eight bytes)
//!               and of all of this block before the checksum
//! ```
//!
//! As each checksum covers the one before, no block can be changed, removed, duplicated or moved unnoticed.

use sha2::{Digest, Sha256};

use super::FORMAT;
use crate::codec::{FormatError, START};

const HEADER: usize = 12;
const CHECKSUM: usize = 32;

/// Largest block in bytes, decompressed. It bounds what a reader allocates at a time.
pub(super) const MAX_RAW: usize = 1 << 20;

/// Largest growth of a block of more than [`FREE`] bytes on decompression.
const MAX_RATIO: usize = 256;
/// Blocks up to this raw size may have any compression ratio.
const FREE: usize = 64 << 10;

const NONE: u8 = 0;
const ZSTD: u8 = 1;

pub(super) const HEAD: u8 = 1;
pub(super) const RECORDS: u8 = 2;
pub(super) const END: u8 = 3;

/// The bytes that the next block's checksum covers besides the block.
pub(super) struct Chain(Vec<u8>);

impl Chain {
    pub(super) fn new(start: [u8; START]) -> Self {
        Self(start.to_vec())
    }

    /// Computes the checksum of `block`, which the next block then covers.
    fn link(&mut self, block: &[u8]) -> [u8; CHECKSUM] {
        let checksum: [u8; CHECKSUM] = Sha256::new().chain_update(&self.0).chain_update(block).finalize().into();
        self.0 = checksum.to_vec();
        checksum
    }
}

/// What a file contains at some position.
pub(super) enum Next<'a> {
    /// A complete block, and the bytes behind it.
    Block { kind: u8, raw: Vec<u8>, rest: &'a [u8] },
    /// The end of the file.
    Nothing,
    /// A part of a block, or the zeros that a file system leaves after a crash.
    Torn,
}

/// Encodes a block.
pub(super) fn seal(chain: &mut Chain, kind: u8, raw: &[u8]) -> Result<Vec<u8>, FormatError> {
    if raw.len() > MAX_RAW {
        return Err(
            FORMAT.content(format!("a block of {} bytes is too long: at most {MAX_RAW} are allowed", raw.len()))
        );
    }
    let compressed = zstd::bulk::compress(raw, zstd::DEFAULT_COMPRESSION_LEVEL)
        .map_err(|e| FORMAT.content(format!("cannot compress a block: {e}")))?;
    let (compression, stored) = match compressed.len() {
        size if size < raw.len() && allowed(size, raw.len()) => (ZSTD, compressed.as_slice()),
        _ => (NONE, raw),
    };
    let mut block = vec![kind, compression, 0, 0];
    block.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    block.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    block.extend_from_slice(stored);
    let checksum = chain.link(&block);
    block.extend_from_slice(&checksum);
    Ok(block)
}

/// Decodes the first block of `bytes`.
pub(super) fn open<'a>(chain: &mut Chain, bytes: &'a [u8]) -> Result<Next<'a>, FormatError> {
    if bytes.is_empty() {
        return Ok(Next::Nothing);
    }
    let Some(header) = bytes.first_chunk::<HEADER>().filter(|header| **header != [0; HEADER]) else {
        let zeros = bytes.iter().all(|b| *b == 0);
        return if zeros || bytes.len() < HEADER { Ok(Next::Torn) } else { Err(damaged()) };
    };
    let [kind, compression, _, _, s0, s1, s2, s3, r0, r1, r2, r3] = *header;
    let (stored, raw) = (u32::from_le_bytes([s0, s1, s2, s3]) as usize, u32::from_le_bytes([r0, r1, r2, r3]) as usize);
    if raw > MAX_RAW || stored > raw || !allowed(stored, raw) {
        return Err(FORMAT.content(format!("a block of {stored} bytes, {raw} decompressed, is over the limits")));
    }
    let end = HEADER + stored;
    let Some(checksum) = bytes.get(end..end + CHECKSUM) else { return Ok(Next::Torn) };
    if chain.link(&bytes[..end])[..] != *checksum {
        return Err(damaged());
    }
    let raw = match compression {
        // Blocks of unknown kinds are skipped, so their compression does not matter.
        _ if ![HEAD, RECORDS, END].contains(&kind) => Vec::new(),
        NONE if stored == raw => bytes[HEADER..end].to_vec(),
        ZSTD => unpack(&bytes[HEADER..end], raw)?,
        other => return Err(FORMAT.content(format!("compression {other} is unknown: upgrade cvmfs-prefetch"))),
    };
    Ok(Next::Block { kind, raw, rest: &bytes[end + CHECKSUM..] })
}

fn allowed(stored: usize, raw: usize) -> bool {
    raw <= FREE || raw <= stored.saturating_mul(MAX_RATIO)
}

fn unpack(stored: &[u8], raw: usize) -> Result<Vec<u8>, FormatError> {
    let unpacked =
        zstd::bulk::decompress(stored, raw).map_err(|e| FORMAT.content(format!("cannot decompress a block: {e}")))?;
    if unpacked.len() == raw {
        Ok(unpacked)
    } else {
        Err(FORMAT.content(format!("a block has {} bytes instead of {raw}", unpacked.len())))
    }
}

fn damaged() -> FormatError {
    FormatError::Checksum { kind: FORMAT.name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
        match open(&mut Chain::new(FORMAT.start()), bytes)? {
            Next::Block { raw, rest: [], .. } => Ok(raw),
            _ => Err(damaged()),
        }
    }

    #[test]
    fn blocks_survive_a_round_trip() {
        let noise: Vec<u8> = (0..5000u32).flat_map(|n| Sha256::digest(n.to_le_bytes())).collect();
        let text = b"/usr/lib/python3/".repeat(1000);
        let (zeros, much_zeros) = (vec![0; FREE], vec![0; MAX_RAW]);
        for (raw, compression) in
            [(&noise, NONE), (&text, ZSTD), (&zeros, ZSTD), (&much_zeros, NONE), (&Vec::new(), NONE)]
        {
            let block = seal(&mut Chain::new(FORMAT.start()), RECORDS, raw).unwrap();
            assert_eq!(block[1], compression, "{} bytes", raw.len());
            assert_eq!(opened(&block).unwrap(), *raw);
        }
        assert!(seal(&mut Chain::new(FORMAT.start()), RECORDS, &vec![0; MAX_RAW + 1]).is_err());
    }

    #[test]
    fn oversized_claims_allocate_nothing() {
        for (stored, raw) in [(10u32, u32::MAX), (10, MAX_RAW as u32), (u32::MAX, 10), (11, 10)] {
            let bytes = [[RECORDS, ZSTD, 0, 0], stored.to_le_bytes(), raw.to_le_bytes(), [0; 4]].concat();
            let error = opened(&bytes).unwrap_err().to_string();
            assert!(error.contains("limits"), "{stored} {raw}: {error}");
        }
    }

    #[test]
    fn blocks_of_another_size_than_claimed_are_refused() {
        let packed = zstd::bulk::compress(&[7; 1000], 3).unwrap();
        for claimed in [999u32, 1001] {
            let mut block = vec![RECORDS, ZSTD, 0, 0];
            block.extend_from_slice(&(packed.len() as u32).to_le_bytes());
            block.extend_from_slice(&claimed.to_le_bytes());
            block.extend_from_slice(&packed);
            let checksum = Chain::new(FORMAT.start()).link(&block);
            block.extend_from_slice(&checksum);
            assert!(matches!(opened(&block), Err(FormatError::Content { .. })), "{claimed}");
        }
    }

    #[test]
    fn trailing_zeros_are_torn_other_zeros_are_damage() {
        let mut chain = Chain::new(FORMAT.start());
        assert!(matches!(open(&mut chain, &[0; 4096]), Ok(Next::Torn)));
        assert!(open(&mut chain, &[vec![0; 4096], vec![1]].concat()).is_err());
    }
}
