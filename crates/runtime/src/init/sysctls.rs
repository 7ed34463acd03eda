//! Kernel parameters of the container's namespaces, written through a procfs that cannot be anything else.

use super::ProcHandle;
use crate::error::{Result, Step};
use crate::validate::sysctl_path;

/// Writes them in order.
pub(super) fn write(proc: &ProcHandle, sysctls: &[(String, String)]) -> Result<()> {
    for (key, value) in sysctls {
        let file = format!("sys/{}", sysctl_path(key));
        proc.write(&file, value).step(|| format!("failed to write sysctl {key} = {value:?}"))?;
    }
    Ok(())
}
