//! Trace files. The checksum is made right first, so that the decoder behind it is reached.
#![no_main]

use bundles::trace::{FORMAT, Trace};

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    let _ = Trace::from_bytes(payload);
    if let Ok(trace) = Trace::from_bytes(&FORMAT.wrap(payload)) {
        let again = trace.to_bytes().expect("what was read can be written");
        assert_eq!(Trace::from_bytes(&again).expect("and read"), trace);
    }
});
