//! Bundle files. The checksum is made right first, so that the decoder behind it is reached; and so are the sections' headers
//! and compression, which few inputs have by chance.
#![no_main]

use bundles::bundle::{Bundle, FORMAT};

/// The input as sections: of each, its number, flags, length (two bytes) and content.
fn sections(mut input: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let Some(([number, flags, low, high], rest)) = input.split_first_chunk::<4>() {
        let (content, behind) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
        input = behind;
        let stored = zstd::bulk::compress(content, 1).expect("it fits");
        payload.extend_from_slice(&[*number, 0, *flags & 1, 0]);
        payload.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        payload.extend_from_slice(&(content.len() as u32).to_le_bytes());
        payload.extend_from_slice(&stored);
    }
    payload
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = Bundle::from_bytes(input);
    for payload in [input.to_vec(), sections(input)] {
        let Ok(file) = FORMAT.wrap(&payload) else { return };
        if let Ok(bundle) = Bundle::from_bytes(&file) {
            let again = bundle.to_bytes().expect("what was read can be written");
            assert_eq!(Bundle::from_bytes(&again).expect("and read"), bundle);
        }
    }
});
