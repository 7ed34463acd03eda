//! See `wharf_fuzzing::layer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzzing::layer(bytes));
