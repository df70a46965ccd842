//! Paths, digests and content hashes: what is accepted is written as it was read.
#![no_main]

use bundles::image::Digest;
use bundles::object::ContentHash;
use bundles::path::RootPath;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(path) = RootPath::new(bytes) {
        assert!(path.components().all(|c| !c.is_empty() && c != b"." && c != b".."));
        assert_eq!(path.as_bytes(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        }
        if let Ok(hash) = text.parse::<ContentHash>() {
            assert_eq!(hash.to_string(), text.to_ascii_lowercase());
        }
    }
});
