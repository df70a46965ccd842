//! The parts of files that are read are recorded by the page.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bundles::trace::{BlindSpots, Range, Ranges, Trace};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tracer_ebpf::Options;

use crate::test_container::TestContainer;

const PAGE: u64 = 4096;
/// Most pages that the kernel maps around a faulting one.
const AROUND: u64 = 16;
const PAGES: u64 = 3000;

/// A container with a large file that is not in the page cache.
fn container_with_cold_file() -> Result<TestContainer> {
    let container =
        TestContainer::new(|root| Ok(fs::write(root.join("etc/large"), vec![7; (PAGES * PAGE) as usize])?))?;
    make_cold(&container.lower.join("etc/large"))?;
    Ok(container)
}

fn make_cold(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    Ok(())
}

fn ranges<'a>(trace: &'a Trace, path: &str) -> Result<&'a Ranges> {
    let file = trace.files.iter().find(|file| file.path.as_bytes() == path.as_bytes()).context("not recorded")?;
    file.ranges.as_ref().context("the file has no ranges")
}

/// The numbers of the pages in `ranges`.
fn pages(ranges: &[Range]) -> Vec<u64> {
    ranges.iter().flat_map(|range| range.start / PAGE..range.end.div_ceil(PAGE)).collect()
}

#[test]
fn mapped_pages_are_recorded_when_touched() -> Result<()> {
    let container = container_with_cold_file()?;
    let touched = [3u64, 100, 101, 700, 2999];
    let words = touched.map(|page| page.to_string()).join(",");
    let touch = format!("touch:{words}:/etc/large");
    for cold in [true, false] {
        let trace = container.record_command(&["/bin/uses", &touch])?;
        ensure!(trace.is_complete(), "{:?}", trace.faults());
        let ranges = ranges(&trace, "/etc/large")?;
        let read = pages(&ranges.read);
        let ahead = pages(&ranges.ahead);
        for page in touched {
            ensure!(read.contains(&page) || ahead.contains(&page), "{page} is in neither of {ranges:?}");
        }
        ensure!(
            read.iter().all(|page| touched.contains(page)),
            "pages that were not touched count as read: {ranges:?}"
        );
        let near = |page: &u64| touched.iter().any(|touched| touched.abs_diff(*page) < AROUND);
        ensure!(ahead.iter().all(near), "pages far from any touched one count as mapped: {ranges:?}");
        // Each touch of an uncached page faults. A cached page may be mapped by fault-around, and is then in `ahead`.
        if cold {
            assert_eq!(read, touched);
        }
    }
    Ok(())
}

#[test]
fn read_pages_are_recorded_as_requested() -> Result<()> {
    let container = container_with_cold_file()?;
    let cases = [
        // Offset, bytes, expected pages.
        (0, 1, 0..1),
        (10 * PAGE + 5, 10, 10..11),
        (99 * PAGE + 4000, 200, 99..101),
        (500 * PAGE, 300 * PAGE, 500..800),
        (2990 * PAGE, 1000 * PAGE, 2990..3000),
    ];
    let mut argv = vec!["/bin/uses".to_owned()];
    argv.extend(cases.iter().map(|(from, bytes, _)| format!("read:{from},{bytes}:/etc/large")));
    let argv: Vec<_> = argv.iter().map(String::as_str).collect();
    let mut expected: Vec<u64> = cases.into_iter().flat_map(|(_, _, pages)| pages).collect();
    expected.sort_unstable();
    for _ in ["cold", "warm"] {
        let trace = container.record_command(&argv)?;
        ensure!(trace.is_complete(), "{:?}", trace.faults());
        let ranges = ranges(&trace, "/etc/large")?;
        assert_eq!(pages(&ranges.read), expected);
        ensure!(ranges.ahead.is_empty(), "{ranges:?}");
    }
    Ok(())
}

#[test]
fn a_large_file_read_completely_has_one_range() -> Result<()> {
    const LARGE: u64 = 40 << 20;
    let container = TestContainer::new(|root| Ok(fs::write(root.join("etc/large"), vec![7; LARGE as usize])?))?;
    let all = format!("read:0,{}:/etc/large", LARGE * 2);
    let trace = container.record_command(&["/bin/uses", &all])?;
    let ranges = ranges(&trace, "/etc/large")?;
    let whole = ranges.read.first().context("nothing")?;
    ensure!(ranges.read.len() == 1 && whole.start == 0 && whole.end >= LARGE, "{ranges:?}");
    Ok(())
}

#[test]
fn a_file_that_is_only_opened_has_no_ranges() -> Result<()> {
    let container = container_with_cold_file()?;
    let trace = container.record_command(&["/bin/uses", "open:/etc/large"])?;
    ensure!(ranges(&trace, "/etc/large")?.is_empty());
    Ok(())
}

#[test]
fn the_trace_says_if_only_page_cache_misses_are_seen() -> Result<()> {
    let container = container_with_cold_file()?;
    let options = Options { baseline_only: true, ..Options::default() };
    let trace = container.record_command_with(options, &["/bin/uses", "touch:100,2000:/etc/large"])?;
    ensure!(trace.is_complete(), "{:?}", trace.faults());
    ensure!(
        trace.blind_spots.has(BlindSpots::WARM_READS) && trace.blind_spots.has(BlindSpots::AHEAD),
        "{:?}",
        trace.blind_spots
    );
    ensure!(trace.recorder.contains("add_to_page_cache") && trace.recorder.contains("sys_exit"), "{}", trace.recorder);
    let read = pages(&ranges(&trace, "/etc/large")?.read);
    ensure!(read.contains(&100) && read.contains(&2000), "{read:?}");
    Ok(())
}
