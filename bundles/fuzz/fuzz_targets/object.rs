//! Stored objects. In whatever pieces one comes, it is the same object; and it is one for the unpacker of whole objects, too.
#![no_main]

use bundles::object::{ObjectError, ContentHash, Unpacker, unpack};

/// The content, unpacked from two pieces; the first has `first` bytes.
fn in_pieces(hash: ContentHash, stored: &[u8], first: usize, raw_size: u64) -> Result<Vec<u8>, ObjectError> {
    let (mut unpacker, mut raw) = (Unpacker::new(hash, raw_size)?, Vec::new());
    let (first, rest) = stored.split_at(first.min(stored.len()));
    for piece in [first, rest] {
        unpacker.feed(piece, |part| {
            raw.extend_from_slice(part);
            Ok::<_, ObjectError>(())
        })?;
    }
    unpacker.finish().map(|()| raw)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(([first, low, high], stored)) = input.split_first_chunk::<3>() else { return };
    let (first, raw_size) = (usize::from(*first), u16::from_le_bytes([*low, *high]).into());
    let hash = ContentHash::sha1_of(stored);
    if let Ok(raw) = in_pieces(hash, stored, first, raw_size) {
        assert_eq!(raw.len() as u64, raw_size);
        assert_eq!(in_pieces(hash, stored, 0, raw_size).expect("they are the same bytes"), raw);
        // The other may refuse it: only that one looks at the content's checksum also when it is fuzzed.
        if let Ok(whole) = unpack(&hash, stored, raw_size) {
            assert_eq!(whole, raw);
        }
    }
});
