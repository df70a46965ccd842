//! Trace files: as they are, and as blocks with a right checksum, so that the decoders behind it are reached.
#![no_main]

use bundles::image::{ChainId, Digest, ImageId};
use bundles::trace::{End, Head, Trace, TraceWriter, Unseen};

/// A file whose second block is `raw`.
fn with_block(kind: u8, raw: &[u8]) -> Option<Vec<u8>> {
    let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
    let head = Head { image, started: 0, recorder: String::new(), unseen: Unseen::default() };
    let mut writer = TraceWriter::new(Vec::new(), &head).ok()?;
    writer.block(kind, raw).ok()?;
    writer.leave().ok()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let files = [Some(input.to_vec()), with_block(2, input), with_block(3, input)];
    for mut trace in files.into_iter().flatten().filter_map(|file| Trace::from_bytes(&file).ok()) {
        let again = Trace::from_bytes(&trace.to_bytes().expect("what was read can be written")).expect("and read");
        // A prefix is written whole, and ends where its files end.
        if let End::Unfinished(_) = trace.end {
            trace.end = again.end;
        }
        assert_eq!(again, trace);
    }
});
