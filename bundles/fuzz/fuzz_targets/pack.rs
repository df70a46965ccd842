//! The index of pack files. The checksum is made right first, so that the decoder behind it is reached.
#![no_main]

use bundles::pack::{FORMAT, HEADER, Index};
use sha2::{Digest, Sha256};

libfuzzer_sys::fuzz_target!(|index: &[u8]| {
    let _ = Index::from_bytes(index);
    // As it is, and compressed, which few inputs are by chance.
    for stored in [index.to_vec(), zstd::bulk::compress(index, 1).expect("it fits")] {
        let mut file = FORMAT.magic.to_vec();
        file.extend_from_slice(&[FORMAT.major.to_le_bytes(), FORMAT.minor.to_le_bytes()].concat());
        file.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        file.extend_from_slice(&Sha256::digest(&stored));
        assert_eq!(file.len(), HEADER);
        file.extend_from_slice(&stored);
        if let Ok(index) = Index::from_bytes(&file) {
            let sizes: u64 = index.objects().iter().map(|object| object.stored_size).sum();
            assert_eq!(index.file_size(), file.len() as u64 + sizes);
        }
    }
});
