//! The file format as a whole.

use super::*;
use crate::image::{ChainId, Digest};

fn file(number: u64, how: Use) -> FileUse {
    let path = RootPath::new(format!("/usr/lib/python3/site-packages/module_{number}.py")).unwrap();
    FileUse { path, at_us: number / 2, size: number * 100, open_flags: 0x8000, how }
}

/// A trace whose end tells `end`, of `count` files.
fn trace(count: u64, end: End) -> Trace {
    let chain_id = ChainId(Digest::of(b"x"));
    Trace {
        image: ImageId { chain_id, manifest: Some(Digest::of(b"m")), reference: "r/i:t".into() },
        started: 1_700_000_000,
        duration_us: 5_000_000,
        end,
        recorder: "test".into(),
        unseen: Unseen::SIZES,
        lost: Losses::default().with(Cause::NoRoom, 3),
        files: (0..count).map(|n| file(n, if n == 0 { Use::Exec } else { Use::Open })).collect(),
    }
}

fn head() -> Head {
    let Trace { image, started, recorder, unseen, .. } = trace(0, End::Stopped);
    Head { image, started, recorder, unseen }
}

fn tail(end: End) -> Tail {
    Tail { end, duration_us: 1, lost: Losses::default() }
}

#[test]
fn what_was_written_is_read() {
    for end in [End::Exited(137), End::TimeUp, End::Stopped, End::NotTold, End::Other(77)] {
        for count in [0, 1, 20_000] {
            let mut written = trace(count, end);
            for (file, how) in written.files.iter_mut().zip([Use::Interpreter, Use::Map, Use::Other(500)]) {
                file.how = how;
            }
            assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
        }
    }
}

#[test]
fn many_files_make_a_small_file_of_many_blocks() {
    let bytes = trace(20_000, End::Stopped).to_bytes().unwrap();
    assert!(bytes.len() < 20_000 * 15, "{} bytes", bytes.len());
}

#[test]
fn every_cut_is_refused_or_told_to_be_a_prefix() {
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    let whole: Vec<_> = (0..9).map(|n| file(n, Use::Open)).collect();
    for three in whole.chunks(3) {
        three.iter().try_for_each(|file| writer.file(file)).unwrap();
        writer.flush().unwrap();
    }
    let bytes = writer.finish(&tail(End::Exited(0))).unwrap();
    assert!(matches!(Trace::from_bytes(&bytes).unwrap().end, End::Exited(0)));
    let mut lengths = Vec::new();
    for cut in 0..bytes.len() {
        let Ok(prefix) = Trace::from_bytes(&bytes[..cut]) else { continue };
        assert!(matches!(prefix.end, End::Unfinished(_)) && !prefix.is_complete(), "cut at {cut}");
        assert!(whole.starts_with(&prefix.files), "cut at {cut}");
        if prefix.end == End::Unfinished(Cut::BetweenBlocks) {
            lengths.push(prefix.files.len());
        }
    }
    assert_eq!(lengths, [0, 3, 6, 9]);
}

#[test]
fn no_changed_byte_passes_for_the_trace() {
    let mut clean = trace(5, End::Stopped);
    clean.lost = Losses::default();
    let bytes = clean.to_bytes().unwrap();
    assert!(clean.is_complete());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        // A changed length may look like a cut.
        let read = Trace::from_bytes(&changed);
        assert!(read.is_err() || read.is_ok_and(|t| !t.is_complete()), "byte {at}");
    }
}

#[test]
fn blocks_cannot_be_left_out_or_exchanged() {
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    let mut ends = Vec::new();
    for number in 0..3 {
        writer.flush().unwrap();
        ends.push(writer.written().len());
        writer.file(&file(number, Use::Open)).unwrap();
    }
    let bytes = writer.finish(&tail(End::Stopped)).unwrap();
    let (first, second, third) = (ends[0], ends[1], ends[2]);
    let without = [&bytes[..first], &bytes[second..]].concat();
    let exchanged = [&bytes[..first], &bytes[second..third], &bytes[first..second], &bytes[third..]].concat();
    for wrong in [without, exchanged, [&bytes[..], b"x"].concat()] {
        assert!(Trace::from_bytes(&wrong).is_err());
    }
}

#[test]
fn a_file_that_comes_again_keeps_its_earliest_use() {
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    for (number, at_us) in [(1, 50), (2, 20), (1, 10), (3, 60), (2, 90)] {
        writer.file(&FileUse { at_us, ..file(number, Use::Open) }).unwrap();
    }
    let read = Trace::from_bytes(&writer.leave().unwrap()).unwrap();
    let seen: Vec<_> = read.files.iter().map(|f| (f.size / 100, f.at_us)).collect();
    assert_eq!(seen, [(1, 10), (2, 20), (3, 60)]);
    assert_eq!(read.duration_us, 60);
}

/// The bytes of a file of minor version 9 with `blocks`.
fn newer(blocks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut start = FORMAT.start();
    start[6] = 9;
    let mut chain = block::Chain::new(start);
    let mut bytes = start.to_vec();
    for (kind, raw) in blocks {
        bytes.extend(block::seal(&mut chain, *kind, raw).unwrap());
    }
    bytes
}

#[test]
fn a_newer_minor_may_add_fields_records_and_blocks() {
    let longer = |mut bytes: Vec<u8>| {
        bytes.extend([1, 2, 3]);
        bytes
    };
    let mut block = Vec::new();
    records::put(&mut block, records::FILE, &longer(FORMAT.encode(&file(1, Use::Open)).unwrap())).unwrap();
    records::put(&mut block, 4711, b"something new").unwrap();
    records::put(&mut block, records::FILE, &FORMAT.encode(&file(2, Use::Open)).unwrap()).unwrap();
    let head = (block::HEAD, longer(FORMAT.encode(&head()).unwrap()));
    let end = (block::END, longer(FORMAT.encode(&tail(End::TimeUp)).unwrap()));
    let read = Trace::from_bytes(&newer(&[head, (99, b"new".to_vec()), (block::RECORDS, block), end])).unwrap();
    assert_eq!((read.files, read.end), (vec![file(1, Use::Open), file(2, Use::Open)], End::TimeUp));
}

#[test]
fn a_newer_major_is_refused_by_name() {
    let mut bytes = trace(1, End::Stopped).to_bytes().unwrap();
    bytes[4] = 2;
    let message = Trace::from_bytes(&bytes).unwrap_err().to_string();
    assert!(message.contains("version 2") && message.contains("upgrade"), "{message}");
}

#[test]
fn records_and_blocks_that_make_no_sense_are_refused() {
    let head = || (block::HEAD, FORMAT.encode(&head()).unwrap());
    let mut long = FORMAT.encode(&(records::FILE, 1000u64)).unwrap();
    long.extend([0; 10]);
    for blocks in [
        vec![(block::RECORDS, Vec::new())],
        vec![head(), head()],
        vec![head(), (block::RECORDS, long)],
        vec![head(), (block::RECORDS, vec![255])],
        vec![head(), (block::END, Vec::new())],
    ] {
        assert!(Trace::from_bytes(&newer(&blocks)).is_err(), "{blocks:?}");
    }
}

#[test]
fn what_a_recorder_did_not_see_is_told() {
    let mut trace = trace(1, End::NotTold);
    trace.unseen = Unseen::START.and(Unseen::TIMES);
    assert_eq!(trace.faults(), ["3 events lost: no room", "not seen: the container's start"]);
    trace.lost = Losses::default();
    trace.unseen = Unseen::TIMES;
    assert!(trace.is_complete());
}

#[test]
fn a_recorder_that_is_killed_leaves_a_prefix_in_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.cpft");
    let mut writer = TraceWriter::create(&path, &head()).unwrap();
    writer.file(&file(1, Use::Exec)).unwrap();
    writer.flush().unwrap();
    writer.file(&file(2, Use::Open)).unwrap();
    // Nothing is written when it is dropped: that is what a killed process does.
    drop(writer);
    let read = Trace::read(&path).unwrap();
    assert_eq!((read.files, read.end), (vec![file(1, Use::Exec)], End::Unfinished(Cut::BetweenBlocks)));
}
