//! AppArmor profile and SELinux label that execve takes on (source: runc `libcontainer/apparmor`,
//! proc_pid_attr(5)).

use super::ProcHandle;
use crate::error::{Result, Step};
use wharf_spec::plan::Process;

/// Whether there is anything to ask for.
pub(super) fn wanted(process: &Process) -> bool {
    let named = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    named(&process.apparmor_profile) || named(&process.selinux_label)
}

/// Asks for both, if wanted.
pub(super) fn set(proc: &ProcHandle, process: &Process) -> Result<()> {
    if let Some(profile) = process.apparmor_profile.as_ref().filter(|profile| !profile.is_empty()) {
        let own = "thread-self/attr/apparmor/exec";
        // Before kernel 5.8 the modules shared one directory.
        let file = if proc.has(own) { own } else { "thread-self/attr/exec" };
        proc.write(file, &format!("exec {profile}")).step(|| "unable to apply apparmor profile")?;
    }
    if let Some(label) = process.selinux_label.as_ref().filter(|label| !label.is_empty()) {
        proc.write("thread-self/attr/exec", label).step(|| "can't set process label")?;
    }
    Ok(())
}
