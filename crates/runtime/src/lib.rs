//! wharf-runtime
pub mod seccomp;
