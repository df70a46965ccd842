//! Files of other versions, and files that no version writes.

use super::*;

/// The bytes of a file of minor version 9 with `blocks`.
pub(super) fn newer(blocks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    with_minor(9, blocks)
}

/// The bytes of a file of a minor version with `blocks`.
fn with_minor(minor: u8, blocks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut start = FORMAT.start();
    start[6] = minor;
    let mut chain = block::Chain::new(start);
    let mut bytes = start.to_vec();
    for (kind, raw) in blocks {
        bytes.extend(block::seal(&mut chain, *kind, raw).unwrap());
    }
    bytes
}

#[test]
fn newer_minor_versions_may_add_fields_and_records() {
    let longer = |mut bytes: Vec<u8>| {
        bytes.extend([1, 2, 3]);
        bytes
    };
    let mut block = Vec::new();
    records::put(&mut block, records::FILE, &longer(FORMAT.encode(&file(1, Use::Open)).unwrap())).unwrap();
    records::put(&mut block, 4711, b"something new").unwrap();
    records::put(&mut block, records::FILE, &FORMAT.encode(&file(2, Use::Open)).unwrap()).unwrap();
    let head = (block::HEAD, longer(FORMAT.encode(&head()).unwrap()));
    let end = (block::END, longer(FORMAT.encode(&tail(End::Timeout)).unwrap()));
    let read = Trace::from_bytes(&newer(&[head, (99, b"new".to_vec()), (block::RECORDS, block), end])).unwrap();
    assert_eq!((read.files, read.end), (vec![file(1, Use::Open), file(2, Use::Open)], End::Timeout));
}

#[test]
fn newer_major_versions_are_refused() {
    let mut bytes = trace(1, End::Stopped).to_bytes().unwrap();
    bytes[4] = 2;
    let message = Trace::from_bytes(&bytes).unwrap_err().to_string();
    assert!(message.contains("version 2") && message.contains("upgrade"), "{message}");
}

#[test]
fn malformed_records_and_blocks_are_refused() {
    let head = || (block::HEAD, FORMAT.encode(&head()).unwrap());
    let mut long = FORMAT.encode(&(records::FILE, 1000u64)).unwrap();
    long.extend([0; 10]);
    let record = |kind, body: Vec<u8>| {
        let mut block = Vec::new();
        records::put(&mut block, kind, &body).unwrap();
        vec![head(), (block::RECORDS, block), (block::END, FORMAT.encode(&tail(End::Stopped)).unwrap())]
    };
    for blocks in [
        // Ranges of a content without path, overlapping ranges, too many ranges.
        record(records::RANGES, vec![1, 0, 0]),
        record(records::RANGES, vec![1, 1, 4, 4, 1, 0, 5]),
        record(records::RANGES, FORMAT.encode(&(1u64, u64::MAX)).unwrap()),
        record(records::CONTENT, vec![1, 3, b'.', b'.', b'/']),
        record(records::REPOSITORY, FORMAT.encode(&(path("/cvmfs/x"), "no name")).unwrap()),
        record(records::FILE, FORMAT.encode(&path("/a")).unwrap()),
        record(records::PHASE, vec![1]),
        vec![(block::RECORDS, Vec::new())],
        vec![head(), head()],
        vec![head(), (block::RECORDS, long)],
        vec![head(), (block::RECORDS, vec![255])],
        vec![head(), (block::END, Vec::new())],
    ] {
        assert!(Trace::from_bytes(&newer(&blocks)).is_err(), "{blocks:?}");
    }
}

/// What version 1.0 of this program wrote.
const VERSION_1_0: &[u8] = include_bytes!("data/version_1_0.cpft");

#[test]
fn version_1_0_is_read_with_defaults() {
    let file =
        |text: &str, at_us, size, open_flags, how| FileUse { at_us, size, open_flags, how, ..FileUse::new(path(text)) };
    let expected = Trace {
        clock: Clock { wall_us: 1_700_000_000_000_000, monotonic_us: 0 },
        duration_us: 5_000_000,
        end: End::Exited(137),
        recorder: "tracer 0.1.0".into(),
        blind_spots: BlindSpots::SIZES.and(BlindSpots::RANGES).and(BlindSpots::SET_UP),
        losses: Losses::default().with(LossCause::BufferFull, 3).with(LossCause::Unresolved, 1),
        files: vec![
            file("/bin/sh", 0, 125_640, 0, Use::Exec),
            file("/lib64/ld-linux-x86-64.so.2", 90, 210_904, 0, Use::Interpreter),
            file("/etc/passwd", 300, 1000, 0x8_0000, Use::Open),
        ],
        ..Trace::new(trace(0, End::Stopped).image)
    };
    let read = Trace::from_bytes(VERSION_1_0).unwrap();
    assert_eq!((read.started(), read.phases.phase_at(0)), (1_700_000_000, Phase::StartUp));
    assert_eq!(read, expected);
    // Written again, it is a file of this version with the same content.
    let again = read.to_bytes().unwrap();
    assert_eq!((again[6], Trace::from_bytes(&again).unwrap()), (3, expected));
}

#[test]
fn the_version_decides_which_fields_exist() {
    let records = |body: &[u8]| {
        let mut block = Vec::new();
        records::put(&mut block, records::FILE, body).unwrap();
        block
    };
    // Bodies of this version. Version 1.0 has fewer fields, as truncated bodies have.
    let bodies = [
        (block::HEAD, FORMAT.encode(&head()).unwrap()),
        (block::RECORDS, records(&FORMAT.encode(&file(1, Use::Open)).unwrap())),
        (block::END, FORMAT.encode(&tail(End::Stopped)).unwrap()),
    ];
    assert!(Trace::from_bytes(&with_minor(2, &bodies)).is_ok());
    assert!(Trace::from_bytes(&with_minor(0, &bodies)).unwrap_err().to_string().contains("left over"));
    for shortened in [0, 2] {
        let mut blocks = bodies.clone();
        blocks[shortened].1.pop();
        assert!(Trace::from_bytes(&with_minor(2, &blocks)).is_err(), "block {shortened}");
    }
    // A head of version 1.1 ends before the profile, which is empty and so takes one byte.
    let mut before_profiles = bodies.clone();
    before_profiles[0].1.pop();
    assert!(Trace::from_bytes(&with_minor(1, &before_profiles)).is_ok());
    assert!(Trace::from_bytes(&with_minor(1, &bodies)).unwrap_err().to_string().contains("left over"));
    let mut blocks = bodies;
    blocks[1].1 = records(FORMAT.encode(&file(1, Use::Open)).unwrap().split_last().unwrap().1);
    assert!(Trace::from_bytes(&with_minor(2, &blocks)).is_err());
}
