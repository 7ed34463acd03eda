//! The process's own memory.

/// Gives free heap pages back to the kernel (malloc_trim(3)): for a small process that has just done something
/// large and will now wait for long.
pub fn trim_heap() {
    // SAFETY: no memory in use is touched, and glibc does its own locking.
    unsafe { libc::malloc_trim(0) };
}
