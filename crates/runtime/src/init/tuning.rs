//! Scheduling, placement and personality, before anything is given up that they may need.

use crate::error::{Error, Result, Step};
use wharf_spec::tuning::Tuning;
use wharf_sys::{Errno, process};

/// Applies what is asked for. CPU affinity is not here: it goes with the control group.
pub(super) fn apply(tuning: &Tuning) -> Result<()> {
    if let Some(domain) = tuning.personality {
        process::set_personality(domain).step(|| "unable to set personality")?;
    }
    if let Some(policy) = &tuning.memory_policy {
        process::set_memory_policy(policy).step(|| "unable to set memory policy")?;
    }
    if let Some(priority) = tuning.io_priority {
        process::set_io_priority(priority).step(|| "unable to set IO priority")?;
    }
    if let Some(scheduler) = &tuning.scheduler {
        match process::set_scheduler(scheduler) {
            // A deadline needs every CPU of its domain (source: sched(7), runc `setupScheduler`).
            Err(error) if error.is(Errno::PERM) => {
                let problem = format!("process scheduler can't be used together with AllowedCPUs: {error}");
                return Err(Error::refused("unable to set scheduler", problem));
            }
            other => other.step(|| "unable to set scheduler")?,
        }
    }
    Ok(())
}
