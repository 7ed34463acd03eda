//! End-to-end tests; see e2e.rs.
#![forbid(unsafe_code)]
