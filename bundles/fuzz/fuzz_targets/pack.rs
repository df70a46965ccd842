//! The index of pack files. The checksum is made right first, so that the decoder behind it is reached.
#![no_main]

use bundles::pack::{FORMAT, HEADER, Index};
use bundles_fuzz::compressed;
use sha2::{Digest, Sha256};

/// A file whose index has these bytes, and a right checksum.
fn with_index(minor: u8, stored: &[u8]) -> Vec<u8> {
    let mut file = FORMAT.magic.to_vec();
    file.extend_from_slice(&[FORMAT.major.to_le_bytes(), u16::from(minor).to_le_bytes()].concat());
    file.extend_from_slice(&(stored.len() as u64).to_le_bytes());
    file.extend_from_slice(&Sha256::digest(stored));
    assert_eq!(file.len(), HEADER);
    file.extend_from_slice(stored);
    file
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else { return };
    let minor = how >> 4;
    let file = match how & 3 {
        0 => input.to_vec(),
        1 => with_index(minor, input),
        // Few inputs are compressed by chance.
        _ => with_index(minor, &compressed(input)),
    };
    if let Ok(index) = Index::from_bytes(&file) {
        let end = Index::extent(&file).expect("it was read");
        let sizes: u64 = index.objects().iter().map(|object| object.stored_size).sum();
        assert_eq!(index.file_size(), end as u64 + sizes);
    }
});
