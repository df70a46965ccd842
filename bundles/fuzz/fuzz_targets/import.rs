//! Records of other programs. What is imported is in order, each file once, and can be written as a trace.
#![no_main]

use std::collections::HashSet;

use bundles::trace::Trace;
use bundles::trace::import::{Source, import};
use bundles_fuzz::image;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((source, record)) = input.split_first() else { return };
    let source = [Source::Stargz, Source::Nydus, Source::Cvmfs, Source::Strace][usize::from(source & 3)];
    let Ok(imported) = import(source, record) else { return };
    let trace = imported.into_trace(image());
    assert!(trace.files.is_sorted_by_key(|file| file.at_us));
    assert_eq!(trace.files.iter().map(|file| &file.path).collect::<HashSet<_>>().len(), trace.files.len());
    assert_eq!(Trace::from_bytes(&trace.to_bytes().expect("it can be written")).expect("and read"), trace);
});
