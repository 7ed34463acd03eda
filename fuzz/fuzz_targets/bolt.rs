//! See `wharf_fuzzing::bolt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzzing::bolt(bytes));
