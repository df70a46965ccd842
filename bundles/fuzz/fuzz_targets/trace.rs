//! Trace files: as they are, and as blocks with a right checksum, so that the decoders behind it are reached.
#![no_main]

use bundles::image::{ChainId, Digest, ImageId};
use bundles::path::RootPath;
use bundles::trace::{Clock, End, FileUse, Head, LeftOut, Losses, Range, Ranges, Tail, Trace, TraceWriter, Unseen};

/// A file whose second block is `raw`; a prefix, or one that is finished.
fn with_block(kind: u8, raw: &[u8], unseen: Unseen, finished: bool) -> Option<Vec<u8>> {
    let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
    let head = Head { image, clock: Clock::default(), recorder: String::new(), unseen, command: Vec::new(), profile: String::new() };
    let mut writer = TraceWriter::new(Vec::new(), &head).ok()?;
    writer.block(kind, raw).ok()?;
    if !finished {
        return writer.leave().ok();
    }
    let (lost, left_out) = (Losses::default(), LeftOut::default());
    writer.finish(&Tail { end: End::Stopped, duration_us: 0, lost, left_out }).ok()
}

/// A finished trace of a file with ranges made of `input`, in whatever order and overlapping.
fn with_ranges(input: &[u8]) -> Trace {
    let ranges = |part: &[u8]| {
        let pairs = part.chunks_exact(2);
        pairs.map(|pair| Range { start: pair[0].into(), end: u64::from(pair[0]) + u64::from(pair[1] >> 4) }).collect()
    };
    let (read, ahead) = input.split_at(input.len() / 2);
    let file = FileUse {
        ranges: Some(Ranges::new(ranges(read), ranges(ahead))),
        ..FileUse::of(RootPath::new("/file").expect("it is a path"))
    };
    let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
    Trace { files: vec![file], ..Trace::of(image) }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let files = [
        Some(input.to_vec()),
        with_block(2, input, Unseen::default(), false),
        with_block(2, input, Unseen::default(), true),
        with_block(2, input, Unseen::RANGES, true),
        with_block(3, input, Unseen::default(), false),
    ];
    for mut trace in files.into_iter().flatten().filter_map(|file| Trace::from_bytes(&file).ok()) {
        let again = Trace::from_bytes(&trace.to_bytes().expect("what was read can be written")).expect("and read");
        // A prefix is written whole, and ends where its files end.
        if let End::Unfinished(_) = trace.end {
            trace.end = again.end;
        }
        assert_eq!(again, trace);
    }
    let trace = with_ranges(input);
    assert_eq!(Trace::from_bytes(&trace.to_bytes().expect("it can be written")).expect("and read"), trace);
});
