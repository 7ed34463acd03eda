//! See `wharf_fuzzing::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_fuzzing::reference(bytes));
