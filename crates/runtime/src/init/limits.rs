//! Resource limits and the OOM score: given by whoever has the rights of the host, the process itself or its
//! parent.

use super::ProcHandle;
use crate::error::{Result, Step};
use wharf_spec::plan::Process;
use wharf_sys::Errno;
use wharf_sys::process::{LimitValue, set_limit};

/// Whose limits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// The calling process's.
    Own,
    /// Those of a child, which is in a user namespace and has no rights of the host.
    Child(i32),
}

/// What is to be set.
#[derive(Debug)]
pub(crate) struct Limits<'a> {
    pub(crate) process: &'a Process,
    /// What is not allowed is a warning.
    pub(crate) tolerate: bool,
}

/// Sets them; returns what was skipped.
pub(crate) fn set(proc: &ProcHandle, target: Target, limits: &Limits<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let (pid, dir) = match target {
        Target::Own => (0, "self".to_owned()),
        Target::Child(pid) => (pid, pid.to_string()),
    };
    for limit in &limits.process.rlimits {
        let value = LimitValue { soft: limit.soft, hard: limit.hard };
        match set_limit(pid, limit.resource, value) {
            Err(error) if error.is(Errno::PERM) && limits.tolerate => {
                warnings.push(format!("resource limit {} is not set: {error}", limit.resource));
            }
            other => other.step(|| format!("error setting rlimit type {}", limit.resource))?,
        }
    }
    // Without a wish it is 0, whatever the parent protects itself with.
    let wanted = limits.process.oom_score_adj;
    match (proc.write(&format!("{dir}/oom_score_adj"), &wanted.unwrap_or(0).to_string()), wanted) {
        (Err(_), None) => {}
        (Err(error), Some(score)) if limits.tolerate => {
            warnings.push(format!("OOM score {score} is not set: {error}"));
        }
        (result, _) => result.step(|| "set oom_score_adj")?,
    }
    Ok(warnings)
}
