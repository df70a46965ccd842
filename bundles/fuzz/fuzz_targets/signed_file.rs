//! Manifest, whitelist and certificate of a repository.
#![no_main]

use base64::Engine;
use bundles::cvmfs::key::Certificate;
use bundles::cvmfs::manifest::Manifest;
use bundles::cvmfs::signed::SignedText;
use bundles::cvmfs::whitelist::Whitelist;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    match how & 7 {
        0 => drop(SignedText::parse("file", bytes)),
        1 => drop(Certificate::from_pem(bytes)),
        2 | 3 => {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            let lines = lines.join("\n");
            let _ = Certificate::from_pem(
                format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n").as_bytes(),
            );
        }
        _ => {
            // The text is believed only with its hash; here the parsers behind are reached without.
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            let signed = SignedText { text, hash: "", signature: &[] };
            match how & 1 {
                0 => drop(Manifest::parse(&signed)),
                _ => drop(Whitelist::parse(&signed).map(|whitelist| whitelist.is_valid_at(u64::from(bytes.len() as u32)))),
            }
        }
    }
});
