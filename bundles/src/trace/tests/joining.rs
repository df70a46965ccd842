//! Joining pieces that come in any order.

use super::*;

#[test]
fn many_ranges_are_split_over_records() {
    let every_second = |first: u64, count| (0..count).map(|n| range(first + 2 * n, first + 2 * n + 1)).collect();
    let ranges = Ranges::new(every_second(u64::MAX - 400_000, 200_000), every_second(0, 70_000));
    let mut written = trace(1, End::Stopped);
    written.files[0].ranges = Some(ranges);
    assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
}

#[test]
fn pieces_are_joined_in_any_order() {
    let (used, other) = (file(1, Use::Open).path, path("/not/used"));
    let read = |start, end| Ranges::new(vec![range(start, end)], Vec::new());
    let ahead = |start, end| Ranges::new(Vec::new(), vec![range(start, end)]);
    let bytes = finished(BlindSpots::default(), |writer| {
        writer.ranges(7, &read(0, 10)).unwrap();
        writer.ranges(8, &ahead(5, 30)).unwrap();
        writer.content(7, &used).unwrap();
        writer.file(&FileUse { ranges: None, ..file(1, Use::Open) }).unwrap();
        writer.file(&FileUse { ranges: None, ..file(2, Use::Open) }).unwrap();
        writer.ranges(7, &read(10, 20)).unwrap();
        // A content with two paths, one of them unused; a path with two contents; a content that is repeated.
        writer.content(8, &used).unwrap();
        writer.content(8, &other).unwrap();
        writer.content(7, &used).unwrap();
    });
    let read = Trace::from_bytes(&bytes).unwrap();
    let ranges: Vec<_> = read.files.iter().map(|file| file.ranges.clone()).collect();
    let united = Ranges { read: vec![range(0, 20)], ahead: vec![range(20, 30)] };
    assert_eq!(ranges, [Some(united), Some(Ranges::default())]);
}

#[test]
fn missing_ranges_mean_unread_or_unknown() {
    let used = file(1, Use::Open);
    let seen = |blind_spots, content: bool, ranges: bool, whole: bool| {
        let mut writer = TraceWriter::new(Vec::new(), &Head { blind_spots, ..head() }).unwrap();
        writer.file(&FileUse { ranges: None, ..used.clone() }).unwrap();
        content.then(|| writer.content(1, &used.path).unwrap());
        ranges.then(|| writer.ranges(1, &Ranges::default()).unwrap());
        let bytes = if whole { writer.finish(&tail(End::Stopped)) } else { writer.finish_as_prefix() };
        Trace::from_bytes(&bytes.unwrap()).unwrap().files.remove(0).ranges.is_some()
    };
    let (known, unknown) = (BlindSpots::default(), BlindSpots::RANGES);
    for (blind_spots, content, ranges, whole, is_known) in [
        (known, false, false, true, true),
        (known, true, false, true, true),
        (known, true, true, true, true),
        (unknown, false, false, true, false),
        (unknown, true, false, true, true),
        (unknown, true, true, true, true),
        // In a prefix, the ranges may be in the missing part.
        (known, false, false, false, false),
        (known, true, false, false, false),
        (known, false, true, false, false),
        (known, true, true, false, true),
    ] {
        assert_eq!(seen(blind_spots, content, ranges, whole), is_known, "{blind_spots:?} {content} {ranges} {whole}");
    }
}

#[test]
fn ranges_of_outside_processes_are_unknown() {
    let mut written = trace(2, End::Stopped);
    (written.files[1].process, written.files[1].ranges) = (Process::new(0, 0, b"hook"), None);
    // This says nothing about the other files.
    assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
}

#[test]
fn unknown_ranges_become_a_blind_spot() {
    let mut written = trace(2, End::Stopped);
    written.files[1].ranges = None;
    let read = Trace::from_bytes(&written.to_bytes().unwrap()).unwrap();
    assert_eq!(read, Trace { blind_spots: BlindSpots::SIZES.and(BlindSpots::RANGES), ..written });
}

#[test]
fn repeated_files_keep_their_earliest_use() {
    let bytes = finished(BlindSpots::default(), |writer| {
        for (number, at_us) in [(1, 50), (2, 20), (1, 10), (3, 60), (2, 90)] {
            writer.file(&FileUse { at_us, ..file(number, Use::Open) }).unwrap();
        }
    });
    let read = Trace::from_bytes(&bytes).unwrap();
    let seen: Vec<_> = read.files.iter().map(|f| (f.size / 100, f.at_us)).collect();
    assert_eq!(seen, [(1, 10), (2, 20), (3, 60)]);
}

#[test]
fn later_uses_add_writing_and_execution() {
    use Use::{Exec, Interpreter, Map, Open, Read};
    for (uses, expected) in [
        (&[(Open, false), (Open, true)][..], (Open, true)),
        (&[(Open, true), (Exec, false)], (Open, true)),
        (&[(Read, false), (Open, false)], (Read, false)),
        (&[(Read, false), (Map, false), (Exec, true)], (Exec, true)),
        (&[(Read, false), (Interpreter, false), (Exec, false)], (Interpreter, false)),
        (&[(Map, false), (Exec, false)], (Map, false)),
    ] {
        let bytes = finished(BlindSpots::default(), |writer| {
            for (at_us, (how, written)) in (1..).zip(uses) {
                writer.file(&FileUse { at_us, written: *written, ..file(1, *how) }).unwrap();
            }
        });
        let read = Trace::from_bytes(&bytes).unwrap();
        let seen: Vec<_> = read.files.iter().map(|file| (file.how, file.written, file.at_us)).collect();
        assert_eq!(seen, [(expected.0, expected.1, 1)], "{uses:?}");
    }
}

#[test]
fn lookups_are_unique_and_sorted_by_time() {
    let lookup = |text: &str, at_us| Lookup { path: path(text), at_us, process: Process::default() };
    let bytes = finished(BlindSpots::default(), |writer| {
        for (text, at_us) in [("/b", 9), ("/a", 5), ("/b", 3), ("/a", 7)] {
            writer.absent(&lookup(text, at_us)).unwrap();
            writer.directory(&lookup(text, at_us)).unwrap();
        }
    });
    let read = Trace::from_bytes(&bytes).unwrap();
    let expected = [lookup("/b", 3), lookup("/a", 5)];
    assert_eq!((&read.absent[..], &read.directories[..]), (&expected[..], &expected[..]));
}

#[test]
fn prefixes_may_have_ranges_without_a_path() {
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    writer.ranges(1, &Ranges::new(vec![range(0, 1)], Vec::new())).unwrap();
    assert_eq!(Trace::from_bytes(&writer.finish_as_prefix().unwrap()).unwrap().files, []);
    let error = Trace::from_bytes(&finished(BlindSpots::default(), |writer| {
        writer.ranges(5, &Ranges::default()).unwrap();
        writer.ranges(3, &Ranges::default()).unwrap();
    }));
    assert!(error.unwrap_err().to_string().contains("content 3"));
}
