//! Trace files: as they are, and as blocks with right checksums, so that the decoders behind these are reached.
#![no_main]

use bundles::path::RootPath;
use bundles::trace::{End, FORMAT, FileUse, Range, Ranges, Trace};
use bundles_fuzz::{compressed, image, pieces};
use sha2::{Digest, Sha256};

const HEAD: u8 = 1;
const RECORDS: u8 = 2;
const END: u8 = 3;

/// A file of some minor version that grows by blocks.
struct File {
    bytes: Vec<u8>,
    /// What the next checksum covers besides its block.
    link: Vec<u8>,
}

impl File {
    fn new(minor: u8) -> Self {
        let bytes = [&FORMAT.magic[..], &FORMAT.major.to_le_bytes(), &u16::from(minor).to_le_bytes()].concat();
        Self { link: bytes.clone(), bytes }
    }

    fn block(&mut self, kind: u8, compress: bool, raw: &[u8]) {
        let stored = if compress { compressed(raw) } else { raw.to_vec() };
        let mut block = vec![kind, compress.into(), 0, 0];
        block.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        block.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        block.extend_from_slice(&stored);
        self.link = Sha256::new().chain_update(&self.link).chain_update(&block).finalize().to_vec();
        self.bytes.extend_from_slice(&block);
        self.bytes.extend_from_slice(&self.link);
    }
}

/// The head of a recorder that tells nothing of itself, and whether it tells ranges.
fn head(minor: u8, ranges: bool) -> Vec<u8> {
    let (image, time_and_recorder) = ([0; 34], [0; 2]);
    let unseen: &[u8] = if ranges { &[0] } else { &[251, 0, 2] };
    let (clock_and_command, profile) = ([0; 3], [0; 1]);
    let added = [&clock_and_command[..], &profile];
    [&[&image[..], &time_and_recorder, unseen].concat(), &added[..usize::from(minor).min(2)].concat()[..]].concat()
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
        ..FileUse::new(RootPath::new("/file").expect("it is a path"))
    };
    Trace { files: vec![file], ..Trace::new(image()) }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, input)) = input.split_first() else { return };
    let (minor, with_head, told, finished) = (how & 3, how & 4 != 0, how & 8 != 0, how & 16 != 0);
    let mut file = File::new(minor);
    if with_head {
        file.block(HEAD, false, &head(minor, told));
    }
    match how >> 5 {
        0 => file.bytes = input.to_vec(),
        1 => {
            let trace = with_ranges(input);
            return assert_eq!(
                Trace::from_bytes(&trace.to_bytes().expect("it can be written")).expect("and read"),
                trace
            );
        }
        2..5 => file.block(RECORDS, false, input),
        _ => pieces(input).for_each(|(kind, compress, raw)| file.block(kind, compress & 1 != 0, raw)),
    }
    if finished {
        // Stopped, after no time, with nothing lost and, since version 1.1, nothing left out.
        file.block(END, false, &[3, 0, 0, 0, 0][..4 + usize::from(minor > 0)]);
    }
    let Ok(mut trace) = Trace::from_bytes(&file.bytes) else { return };
    let again = Trace::from_bytes(&trace.to_bytes().expect("what was read can be written")).expect("and read");
    // A prefix is written whole, and ends where its files end.
    if let End::Unfinished(_) = trace.end {
        trace.end = again.end;
    }
    assert_eq!(again, trace);
});
