//! Manifest, whitelist and certificate of a repository.
#![no_main]

use bundles::cvmfs::key::Certificate;
use bundles::cvmfs::manifest::Manifest;
use bundles::cvmfs::signed::SignedText;
use bundles::cvmfs::whitelist::Whitelist;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::from_pem(bytes);
    let _ = SignedText::parse("file", bytes);
    // The text is believed only with its hash; here the parsers behind are reached without.
    if let Ok(text) = std::str::from_utf8(bytes) {
        let signed = SignedText { text, hash: "", signature: &[] };
        let _ = Manifest::parse(&signed);
        if let Ok(whitelist) = Whitelist::parse(&signed) {
            whitelist.holds_at(u64::from(bytes.len() as u32));
        }
    }
});
