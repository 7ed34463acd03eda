//! See `wharf_fuzzing::extract`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzzing::extract(bytes));
