//! Bundle files. The checksum is made right first, so that the decoder behind it is reached.
#![no_main]

use bundles::bundle::{Bundle, FORMAT};

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    let _ = Bundle::from_bytes(payload);
    let Ok(file) = FORMAT.wrap(payload) else { return };
    if let Ok(bundle) = Bundle::from_bytes(&file) {
        let again = bundle.to_bytes().expect("what was read can be written");
        assert_eq!(Bundle::from_bytes(&again).expect("and read"), bundle);
    }
});
