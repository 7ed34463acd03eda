//! See `wharf_fuzzing::archive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzzing::archive(bytes));
