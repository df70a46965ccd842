//! Log files of containers, read at once and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tracer_ebpf::fuzzing::cri_log(input));
