//! Mountinfo files, and the overlay options in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tracer_ebpf::fuzzing::mountinfo(input));
