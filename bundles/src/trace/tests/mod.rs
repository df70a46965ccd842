//! The file format as a whole.

mod compatibility;
mod joining;

use super::*;
use crate::image::{ChainId, Digest};
use crate::path::{PathBytes, RootPath};
use crate::phase::Phase;
use compatibility::newer;

fn path(text: &str) -> RootPath {
    RootPath::new(text).unwrap()
}

fn range(start: u64, end: u64) -> Range {
    Range { start, end }
}

/// A file that was opened and not read.
fn file(number: u64, how: Use) -> FileUse {
    FileUse {
        at_us: number / 2,
        size: number * 100,
        open_flags: 0x8000,
        how,
        ranges: Some(Ranges::default()),
        process: Process::new(7, 1, b"sh"),
        ..FileUse::new(path(&format!("/usr/lib/python3/site-packages/module_{number}.py")))
    }
}

/// A trace of `count` files that ends with `end`.
fn trace(count: u64, end: End) -> Trace {
    let chain_id = ChainId(Digest::sha256(b"x"));
    let image = ImageId { chain_id, manifest: Some(Digest::sha256(b"m")), reference: "r/i:t".into() };
    Trace {
        clock: Clock { wall_us: 1_700_000_000_123_456, monotonic_us: 77 },
        duration_us: 5_000_000,
        end,
        recorder: "test".into(),
        blind_spots: BlindSpots::SIZES,
        losses: Losses::default().with(LossCause::BufferFull, 3),
        files: (0..count).map(|n| file(n, if n == 0 { Use::Exec } else { Use::Open })).collect(),
        ..Trace::new(image)
    }
}

/// A trace that uses every part of the format.
fn full() -> Trace {
    let process = Process::new(12, 1, b"python3");
    let lookup = |text: &str, at_us| Lookup { path: path(text), at_us, process: process.clone() };
    let odd = Ranges::new(vec![range(0, 4096), range(1 << 40, (1 << 40) + 1)], vec![range(4096, 1 << 20)]);
    let mut trace = trace(6, End::Exited(0));
    for (file, how) in trace.files.iter_mut().zip([Use::Interpreter, Use::Map, Use::Read, Use::Other(500)]) {
        (file.how, file.process) = (how, process.clone());
    }
    trace.files[1].written = true;
    trace.files[2].ranges = Some(odd);
    trace.command = vec!["sh".into(), "-c".into(), String::new()];
    trace.profile = "fit".into();
    trace.phases = Phases { start_up_us: 3, main_us: Some(40) };
    trace.losses.add(LossCause::TooDeep, 1);
    trace.losses.add(LossCause::TableFull, 2);
    trace.excluded = Excluded::default().with(ExcludedReason::OtherFileSystem, 9).with(ExcludedReason::Other(8), 1);
    trace.repositories = vec![MountedRepository { path: path("/cvmfs/sft.cern.ch"), name: "sft.cern.ch".into() }];
    trace.absent = vec![lookup("/etc/ld.so.preload", 1), lookup("/lib/none", 2)];
    trace.directories = vec![lookup("/etc", 5)];
    trace
}

fn head() -> Head {
    Head { blind_spots: BlindSpots::SIZES, ..trace(0, End::Stopped).head() }
}

fn tail(end: End) -> Tail {
    Tail { end, duration_us: 1, losses: Losses::default(), excluded: Excluded::default() }
}

/// The bytes of a finished trace that `write` wrote.
fn finished(blind_spots: BlindSpots, write: impl Fn(&mut TraceWriter<Vec<u8>>)) -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new(), &Head { blind_spots, ..head() }).unwrap();
    write(&mut writer);
    writer.finish(&tail(End::Stopped)).unwrap()
}

#[test]
fn traces_survive_a_round_trip() {
    for end in [End::Exited(137), End::Timeout, End::Stopped, End::Unknown, End::CutShort, End::Other(77)] {
        for count in [0, 1, 20_000] {
            let written = trace(count, end);
            assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
        }
    }
    let full = full();
    assert_eq!(Trace::from_bytes(&full.to_bytes().unwrap()).unwrap(), full);
}

#[test]
fn a_rewritten_prefix_stays_the_same() {
    for ranges in [None, Some(Ranges::default()), Some(Ranges::new(vec![range(1, 2)], vec![]))] {
        let end = End::Unfinished(Cut::BetweenBlocks);
        let file = FileUse { ranges, ..file(1, Use::Open) };
        let written = Trace { files: vec![file], duration_us: 0, losses: Losses::default(), ..trace(0, end) };
        assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
    }
}

#[test]
fn many_files_compress_well() {
    let bytes = trace(20_000, End::Stopped).to_bytes().unwrap();
    assert!(bytes.len() < 20_000 * 30, "{} bytes", bytes.len());
}

#[test]
fn truncated_traces_are_prefixes_or_refused() {
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
fn changed_bytes_never_pass_as_complete() {
    let mut clean = trace(5, End::Stopped);
    clean.losses = Losses::default();
    let bytes = clean.to_bytes().unwrap();
    assert!(clean.is_complete());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        // A changed length may look like a truncation.
        let read = Trace::from_bytes(&changed);
        assert!(read.is_err() || read.is_ok_and(|t| !t.is_complete()), "byte {at}");
    }
}

#[test]
fn recordings_that_were_cut_are_not_complete() {
    let with_end = |end| Trace { losses: Losses::default(), ..trace(5, end) };
    for end in [End::CutShort, End::Other(77), End::Unfinished(Cut::BetweenBlocks)] {
        let faults = with_end(end).faults();
        assert_eq!(faults, [end.to_string()], "{end:?}");
    }
    for end in [End::Exited(1), End::Timeout, End::Stopped, End::Unknown, End::Settled, End::Ready, End::Port(1)] {
        assert!(with_end(end).is_complete(), "{end:?}");
    }
}

#[test]
fn blocks_cannot_be_removed_or_swapped() {
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
fn phases_are_marked_during_the_recording() {
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    writer.phase(Phase::SetUp, 1).unwrap();
    writer.phase(Phase::StartUp, 30).unwrap();
    let read = Trace::from_bytes(&writer.finish_as_prefix().unwrap()).unwrap();
    assert_eq!(read.phases, Phases { start_up_us: 30, main_us: None });
}

#[test]
fn blind_spots_and_losses_are_faults() {
    let mut trace = trace(1, End::Unknown);
    trace.blind_spots = BlindSpots::START.and(BlindSpots::TIMES);
    assert_eq!(trace.faults(), ["3 events lost: buffer full", "blind spot: the container's start"]);
    trace.losses = Losses::default();
    trace.blind_spots = BlindSpots::TIMES;
    assert!(trace.is_complete());
}

#[test]
fn a_killed_recorder_leaves_a_readable_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.cpft");
    let mut writer = TraceWriter::create(&path, &head()).unwrap();
    writer.file(&file(1, Use::Exec)).unwrap();
    writer.flush().unwrap();
    writer.file(&file(2, Use::Open)).unwrap();
    // Dropping writes nothing, like a killed process.
    drop(writer);
    let read = Trace::read(&path).unwrap();
    assert_eq!((read.files, read.end), (vec![file(1, Use::Exec)], End::Unfinished(Cut::BetweenBlocks)));
}

#[test]
fn limits_hold_for_writing_and_reading() {
    let mounted = full().repositories.remove(0);
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    (0..repository::MAX).for_each(|_| writer.repository(&mounted).unwrap());
    assert!(writer.repository(&mounted).unwrap_err().to_string().contains("more than 4096 repositories"));
    let mut block = Vec::new();
    for _ in 0..=repository::MAX {
        records::put(&mut block, records::REPOSITORY, &FORMAT.encode(&mounted).unwrap()).unwrap();
    }
    let head = (block::HEAD, FORMAT.encode(&head()).unwrap());
    let error = Trace::from_bytes(&newer(&[head, (block::RECORDS, block)])).unwrap_err().to_string();
    assert!(error.contains("more than 4096 repositories"), "{error}");

    let ranges = Ranges::new((0..60_000).map(|n| range(2 * n, 2 * n + 1)).collect(), Vec::new());
    let mut parts = join::Parts::default();
    let taken = (0..).take_while(|id| parts.ranges(*id, ranges.clone()).is_ok()).count();
    assert_eq!(taken, join::MAX_RANGES / 60_000);
    // One content at many paths counts like many contents.
    let (mut parts, mut paths) = (join::Parts::default(), Paths::default());
    parts.ranges(1, ranges).unwrap();
    for number in 0..=taken as u64 {
        let file = file(number, Use::Open);
        let path = paths.number(PathBytes(file.path.as_bytes())).unwrap();
        parts.file(file.with_path(path));
        parts.content(1, path);
    }
    assert!(parts.join(&paths, true).unwrap_err().to_string().contains("more than 16000000 ranges"));
}

#[test]
fn json_has_all_fields() {
    let json = serde_json::to_value(full()).unwrap();
    let expected = serde_json::json!({"wall_us": 1_700_000_000_123_456_u64, "monotonic_us": 77});
    assert_eq!((&json["started"], &json["clock"]), (&1_700_000_000.into(), &expected));
    assert_eq!(json["phases"], serde_json::json!({"start_up_us": 3, "main_us": 40}));
    assert_eq!(json["excluded"], serde_json::json!({"other_file_system": 9, "reason_8": 1}));
    assert_eq!(json["files"][1]["process"], serde_json::json!({"pid": 12, "parent": 1, "name": "python3"}));
    assert_eq!(json["files"][2]["ranges"]["ahead"], serde_json::json!([{"start": 4096, "end": 1_048_576}]));
    assert_eq!(json["files"][2]["how"], "read");
}
