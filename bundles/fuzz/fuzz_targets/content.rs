//! What a file's content is: rows of a catalog (SQLite reads the bytes), and the list of chunks that a mounted client tells.
//! Chunks cover the file, one behind the other.
#![no_main]

use bundles::cvmfs::catalog::{RawChunk, RawEntry};
use bundles::cvmfs::{Chunk, Content, EntryKind, listed_chunks};

fn number<const SIZE: usize>(input: &mut &[u8]) -> [u8; SIZE] {
    let (number, rest) = input.split_first_chunk().map_or(([0; SIZE], &[][..]), |(number, rest)| (*number, rest));
    *input = rest;
    number
}

fn bytes(input: &mut &[u8]) -> Vec<u8> {
    let [size] = number(input);
    let (bytes, rest) = input.split_at(usize::from(size).min(input.len()));
    *input = rest;
    bytes.to_vec()
}

fn check(chunks: &[Chunk], size: u64) {
    let end = chunks.iter().fold(0u64, |end, chunk| {
        assert_eq!(chunk.offset, end);
        end.saturating_add(chunk.size)
    });
    assert_eq!(end, size);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, mut input)) = input.split_first() else { return };
    let input = &mut input;
    // Sizes of two bytes are sizes that sums are found for.
    let size = if how & 1 == 0 { u16::from_le_bytes(number(input)).into() } else { u64::from_le_bytes(number(input)) };
    if how & 2 == 0 {
        if let Ok(chunks) = listed_chunks(&String::from_utf8_lossy(input), size) {
            check(&chunks, size);
        }
        return;
    }
    let (flags, mode) = (u16::from_le_bytes(number(input)).into(), u16::from_le_bytes(number(input)).into());
    let (name, hash, symlink) = (bytes(input), bytes(input), bytes(input));
    let mut chunks = Vec::new();
    while !input.is_empty() {
        let [offset, size] = [(); 2].map(|()| u16::from_le_bytes(number(input)).into());
        chunks.push(RawChunk { offset, size, hash: bytes(input) });
    }
    let row = RawEntry { size, flags, mode, name, hash, symlink, ..RawEntry::default() };
    let Ok(entry) = row.entry(chunks) else { return };
    if let EntryKind::File(Content::Chunks { chunks, .. }) = entry.kind {
        check(&chunks, size);
    }
});
