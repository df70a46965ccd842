//! Pieces that are told apart, in whatever order.

use super::*;

#[test]
fn many_ranges_of_a_file_are_written_in_parts() {
    let every_second = |first: u64, count| (0..count).map(|n| range(first + 2 * n, first + 2 * n + 1)).collect();
    let ranges = Ranges::new(every_second(u64::MAX - 400_000, 200_000), every_second(0, 70_000));
    let mut written = trace(1, End::Stopped);
    written.files[0].ranges = Some(ranges);
    assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
}

#[test]
fn files_contents_and_ranges_are_joined_in_whatever_order_they_come() {
    let (used, other) = (file(1, Use::Open).path, path("/not/used"));
    let read = |start, end| Ranges::new(vec![range(start, end)], Vec::new());
    let ahead = |start, end| Ranges::new(Vec::new(), vec![range(start, end)]);
    let bytes = finished(Unseen::default(), |writer| {
        writer.ranges(7, &read(0, 10)).unwrap();
        writer.ranges(8, &ahead(5, 30)).unwrap();
        writer.content(7, &used).unwrap();
        writer.file(&FileUse { ranges: None, ..file(1, Use::Open) }).unwrap();
        writer.file(&FileUse { ranges: None, ..file(2, Use::Open) }).unwrap();
        writer.ranges(7, &read(10, 20)).unwrap();
        // A content has two paths, one of them without a use; a path has two contents; a content is told twice.
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
fn a_file_without_ranges_was_not_read_or_it_is_not_known() {
    let used = file(1, Use::Open);
    let seen = |unseen, content: bool, ranges: bool, whole: bool| {
        let mut writer = TraceWriter::new(Vec::new(), &Head { unseen, ..head() }).unwrap();
        writer.file(&FileUse { ranges: None, ..used.clone() }).unwrap();
        content.then(|| writer.content(1, &used.path).unwrap());
        ranges.then(|| writer.ranges(1, &Ranges::default()).unwrap());
        let bytes = if whole { writer.finish(&tail(End::Stopped)) } else { writer.leave() };
        Trace::from_bytes(&bytes.unwrap()).unwrap().files.remove(0).ranges.is_some()
    };
    let (told, untold) = (Unseen::default(), Unseen::RANGES);
    for (unseen, content, ranges, whole, known) in [
        (told, false, false, true, true),
        (told, true, false, true, true),
        (told, true, true, true, true),
        (untold, false, false, true, false),
        (untold, true, false, true, true),
        (untold, true, true, true, true),
        // In a prefix the ranges may be in the part that is missing.
        (told, false, false, false, false),
        (told, true, false, false, false),
        (told, false, true, false, false),
        (told, true, true, false, true),
    ] {
        assert_eq!(seen(unseen, content, ranges, whole), known, "{unseen:?} {content} {ranges} {whole}");
    }
}

#[test]
fn what_a_process_outside_the_container_read_is_not_known() {
    let mut written = trace(2, End::Stopped);
    (written.files[1].process, written.files[1].ranges) = (Process::new(0, 0, b"hook"), None);
    // Which says nothing about the other files.
    assert_eq!(Trace::from_bytes(&written.to_bytes().unwrap()).unwrap(), written);
}

#[test]
fn a_trace_that_does_not_know_the_ranges_of_a_file_says_so() {
    let mut written = trace(2, End::Stopped);
    written.files[1].ranges = None;
    let read = Trace::from_bytes(&written.to_bytes().unwrap()).unwrap();
    assert_eq!(read, Trace { unseen: Unseen::SIZES.and(Unseen::RANGES), ..written });
}

#[test]
fn a_file_that_comes_again_keeps_its_earliest_use() {
    let bytes = finished(Unseen::default(), |writer| {
        for (number, at_us) in [(1, 50), (2, 20), (1, 10), (3, 60), (2, 90)] {
            writer.file(&FileUse { at_us, ..file(number, Use::Open) }).unwrap();
        }
    });
    let read = Trace::from_bytes(&bytes).unwrap();
    let seen: Vec<_> = read.files.iter().map(|f| (f.size / 100, f.at_us)).collect();
    assert_eq!(seen, [(1, 10), (2, 20), (3, 60)]);
}

#[test]
fn later_uses_tell_of_writing_and_of_execution() {
    use Use::{Exec, Interpreter, Map, Open, Read};
    for (uses, expected) in [
        (&[(Open, false), (Open, true)][..], (Open, true)),
        (&[(Open, true), (Exec, false)], (Open, true)),
        (&[(Read, false), (Open, false)], (Read, false)),
        (&[(Read, false), (Map, false), (Exec, true)], (Exec, true)),
        (&[(Read, false), (Interpreter, false), (Exec, false)], (Interpreter, false)),
        (&[(Map, false), (Exec, false)], (Map, false)),
    ] {
        let bytes = finished(Unseen::default(), |writer| {
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
fn lookups_are_kept_once_and_in_order() {
    let lookup = |text: &str, at_us| Lookup { path: path(text), at_us, process: Process::default() };
    let bytes = finished(Unseen::default(), |writer| {
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
fn a_prefix_may_have_ranges_of_a_content_that_has_no_path_yet() {
    let mut writer = TraceWriter::new(Vec::new(), &head()).unwrap();
    writer.ranges(1, &Ranges::new(vec![range(0, 1)], Vec::new())).unwrap();
    assert_eq!(Trace::from_bytes(&writer.leave().unwrap()).unwrap().files, []);
    let error = Trace::from_bytes(&finished(Unseen::default(), |writer| {
        writer.ranges(5, &Ranges::default()).unwrap();
        writer.ranges(3, &Ranges::default()).unwrap();
    }));
    assert!(error.unwrap_err().to_string().contains("content 3"));
}
