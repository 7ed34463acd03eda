//! Signals, pause and limits of a running container.

use crate::error::{Error, Result, Step};
use rustix::fd::AsFd;
use wharf_spec::plan::Resources;
use wharf_sys::cgroup::Cgroup;
use wharf_sys::{Errno, process};

/// Signals one process; [`Error::NotRunning`] when it has ended.
pub fn signal(pidfd: impl AsFd, number: i32) -> Result<()> {
    match process::pidfd_send_signal(pidfd, number) {
        Err(error) if error.is(Errno::SRCH) => Err(Error::NotRunning),
        other => other.step(|| "unable to signal init"),
    }
}

/// Signals every process of a control group; SIGKILL reaches frozen ones too. A container that shares its pid
/// namespace is ended by this, not by killing its first process.
pub fn signal_all(cgroup: &Cgroup, number: i32) -> Result<()> {
    if number == crate::spawn::libc_sigkill() {
        return cgroup.kill_all().step(|| "unable to kill all processes");
    }
    cgroup.signal_all(number).step(|| "unable to signal all processes")
}

/// Stops every process of a control group until [`resume`].
pub fn pause(cgroup: &Cgroup) -> Result<()> {
    cgroup.freeze().step(|| "unable to freeze")
}

/// Lets them run again.
pub fn resume(cgroup: &Cgroup) -> Result<()> {
    cgroup.thaw().step(|| "unable to thaw")
}

/// Changes limits; those that are `None` stay. Returns what this machine cannot do.
pub fn update(cgroup: &Cgroup, resources: &Resources) -> Result<Vec<String>> {
    crate::cgroup::limit(cgroup, resources)
}
