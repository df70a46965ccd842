//! Configuration files of the CVMFS client. Parsing ends, values are bounded, and a value that was read can be written in single quotes
//! and read again.
#![no_main]

use std::path::Path;

use node_fuzz::shell::{self, Values};

/// Maximum length of a value, and of one that holds another twice.
const MAX_VALUE: usize = 64 << 10;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let file = Path::new("default.local");
    let mut values = Values::new();
    if shell::read(text, file, &mut values).is_err() {
        return;
    }
    for (key, value) in &values {
        assert!(value.len() <= MAX_VALUE + text.len(), "{key} has {} bytes", value.len());
        if !value.contains(['\'', '\n', '\r']) && !value.ends_with('\\') {
            let mut again = Values::new();
            shell::read(&format!("{key}='{value}'"), file, &mut again).expect("a quoted value is read");
            assert_eq!(again.get(key), Some(value));
        }
    }
});
