//! Resource limits, niceness, OOM score.

use crate::raw::check;
use crate::{Context, Result};
use std::path::Path;

/// A resource limit; `u64::MAX` is infinity.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of getrlimit(2)")]
pub struct LimitValue {
    pub soft: u64,
    pub hard: u64,
}

/// Sets limit number `resource` (RLIMIT_*) of a process, 0 for the caller (prlimit(2)). EPERM: raising a hard
/// limit needs CAP_SYS_RESOURCE.
pub fn set_limit(pid: i32, resource: u32, limit: LimitValue) -> Result<()> {
    let old = std::ptr::null_mut::<LimitValue>();
    // SAFETY: `limit` is live and has the layout of struct rlimit64; the old value is not asked for.
    let value = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &limit, old) };
    check(value).map(drop).on("prlimit", || format!("resource {resource}"))
}

/// The caller's limit number `resource` (RLIMIT_*).
pub fn limit(resource: u32) -> Result<LimitValue> {
    let mut value = LimitValue { soft: 0, hard: 0 };
    let new = std::ptr::null::<LimitValue>();
    // SAFETY: `value` is live and has the layout of struct rlimit64; no new value is given.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, &mut value) };
    check(result).map(|_| value).on("prlimit", || format!("resource {resource}"))
}

/// Lets the caller have as many descriptors as its hard limit allows; gives what it had before.
pub fn raise_descriptor_limit() -> Result<LimitValue> {
    let before = limit(libc::RLIMIT_NOFILE)?;
    set_limit(0, libc::RLIMIT_NOFILE, LimitValue { soft: before.hard, ..before })?;
    Ok(before)
}

/// Sets the caller's niceness to 0; lowering it needs CAP_SYS_NICE, without it nothing changes.
pub fn reset_nice() {
    // A niceness inherited and not removable is no reason to fail.
    let _ = rustix::process::setpriority_process(None, 0);
}

/// Writes `oom_score_adj` (-1000 to 1000) into a process's directory of a procfs, such as `/proc/self`.
/// Lowering it below its inherited minimum needs CAP_SYS_RESOURCE (EACCES).
pub fn set_oom_score_adj(process_dir: &Path, value: i32) -> Result<()> {
    let path = process_dir.join("oom_score_adj");
    std::fs::write(&path, value.to_string()).on("write", || path.display().to_string())
}
