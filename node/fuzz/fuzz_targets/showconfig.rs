//! Output of `cvmfs_config showconfig`. Only parameters of the client are taken from it.
#![no_main]

use node_fuzz::showconfig;

libfuzzer_sys::fuzz_target!(|output: &[u8]| {
    let text = String::from_utf8_lossy(output);
    for (key, value) in showconfig::parse(&text) {
        assert!(key.starts_with("CVMFS_") && !key.contains(char::is_whitespace), "{key:?}");
        assert!(value.len() <= text.len(), "{key}");
    }
});
