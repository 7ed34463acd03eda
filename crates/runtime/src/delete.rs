//! Removing what is left of a container whose first process has ended.

use crate::error::{Result, Step};
use wharf_sys::cgroup::Cgroup;

/// Kills what is left in the control group and removes it. Its mounts went with its mount namespace.
pub fn delete(cgroup: &Cgroup) -> Result<()> {
    cgroup.remove().step(|| "unable to remove cgroup")
}
