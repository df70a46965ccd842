//! Bundle files. The checksum is made right first, so that the decoder behind it is reached; and so are the sections' headers
//! and compression, which few inputs have by chance.
#![no_main]

use bundles::bundle::{Bundle, FORMAT};
use bundles::codec::Format;
use bundles_fuzz::{compressed, pieces};

/// The input as sections.
fn sections(input: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (number, flags, content) in pieces(input) {
        let stored = compressed(content);
        payload.extend_from_slice(&[number, 0, flags & 1, 0]);
        payload.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        payload.extend_from_slice(&(content.len() as u32).to_le_bytes());
        payload.extend_from_slice(&stored);
    }
    payload
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else { return };
    let format = Format { minor: u16::from(how >> 4), ..FORMAT };
    let file = match how & 3 {
        0 => input.to_vec(),
        1 => format.wrap(input).expect("it is short"),
        _ => format.wrap(&sections(input)).expect("it is short"),
    };
    if let Ok(bundle) = Bundle::from_bytes(&file) {
        let again = bundle.to_bytes().expect("what was read can be written");
        assert_eq!(Bundle::from_bytes(&again).expect("and read"), bundle);
    }
});
