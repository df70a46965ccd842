//! Traces for the unit tests.

use bundles::image::{ChainId, Digest, ImageId};
use bundles::path::RootPath;
use bundles::trace::{
    BlindSpots, End, Excluded, ExcludedReason, FileUse, Lookup, MountedRepository, Phases, Process, Range, Ranges,
    Trace,
};

/// A trace of files with their times and sizes. Processes and ranges are unknown.
pub(crate) fn trace(files: &[(&str, u64, u64)]) -> Trace {
    let file = |(path, at_us, size): &(&str, u64, u64)| FileUse {
        at_us: *at_us,
        size: *size,
        ..FileUse::new(RootPath::new(*path).unwrap())
    };
    let image = ImageId { chain_id: ChainId(Digest::sha256(b"x")), manifest: None, reference: "r/i:t".into() };
    Trace {
        duration_us: 1000,
        end: End::Stopped,
        recorder: "test".into(),
        blind_spots: BlindSpots::RANGES,
        files: files.iter().map(file).collect(),
        ..Trace::new(image)
    }
}

/// A trace with every kind of information: a file per phase, used by two processes; the second file is written, of the third
/// nothing is read.
pub(crate) fn full_trace() -> Trace {
    let path = |text: &str| RootPath::new(text).unwrap();
    let mut trace = trace(&[("/bin/sh", 0, 1000), ("/etc/conf", 10, 300), ("/usr/lib/a", 20, 500)]);
    let processes = [Process::default(), Process::new(1, 0, b"sh"), Process::new(7, 1, b"a,b")];
    let part = |start, end| vec![Range { start, end }];
    let ranges = [Ranges::new(part(0, 400), part(0, 700)), Ranges::new(part(0, 100), vec![]), Ranges::default()];
    for ((file, process), ranges) in trace.files.iter_mut().zip(processes.clone()).zip(ranges) {
        file.process = process;
        file.ranges = Some(ranges);
    }
    trace.files[1].written = true;
    trace.blind_spots = BlindSpots::default();
    trace.command = vec!["sh".into(), "-c".into(), "it's \n".into()];
    trace.phases = Phases { start_up_us: 5, main_us: Some(15) };
    trace.excluded = Excluded::default().with(ExcludedReason::OtherFileSystem, 9);
    trace.repositories = vec![MountedRepository { path: path("/cvmfs/x.org"), name: "x.org".into() }];
    let [_, process, _] = processes;
    trace.absent = vec![Lookup { path: path("/lib/none"), at_us: 11, process: process.clone() }];
    trace.directories = vec![Lookup { path: path("/etc"), at_us: 12, process }];
    trace
}
