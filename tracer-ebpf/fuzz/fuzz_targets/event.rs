//! Records of the ring buffer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tracer_ebpf::fuzzing::event(input));
