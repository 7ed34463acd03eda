//! See `wharf_fuzzing::tarsplit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzzing::tarsplit(bytes));
