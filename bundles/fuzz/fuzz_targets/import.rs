//! Records of other programs. What is imported is in order, each file once, and can be written as a trace.
#![no_main]

use std::collections::HashSet;

use bundles::image::{ChainId, Digest, ImageId};
use bundles::trace::Trace;
use bundles::trace::import::{Source, import};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    for source in [Source::Stargz, Source::Nydus, Source::Cvmfs, Source::Strace] {
        let Ok(imported) = import(source, input) else { continue };
        let image = ImageId { chain_id: ChainId(Digest::of(b"x")), manifest: None, reference: String::new() };
        let trace = imported.into_trace(image);
        assert!(trace.files.is_sorted_by_key(|file| file.at_us));
        assert_eq!(trace.files.iter().map(|file| &file.path).collect::<HashSet<_>>().len(), trace.files.len());
        assert_eq!(Trace::from_bytes(&trace.to_bytes().expect("it can be written")).expect("and read"), trace);
    }
});
