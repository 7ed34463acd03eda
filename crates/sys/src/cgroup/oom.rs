//! Noticing that a group ran out of memory.

use super::file::{read_key, write};
use super::{Cgroup, Dirs};
use crate::{Context, Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Becomes readable when something about the group's memory happened: [`OomWatch::drain`] it and compare
/// [`Cgroup::oom_kills`]. On v1 it fires once more when the group is removed.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl OomWatch {
    /// Forgets what has been noticed.
    pub fn drain(&self) -> Result<()> {
        crate::event::drain(&self.fd)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The counter of kills: `memory.events` on v2, `memory.oom_control` on v1 (kernel 4.13).
pub(super) fn kills(group: &Cgroup) -> Result<u64> {
    let file = match group.dirs {
        Dirs::V1(_) => "memory.oom_control",
        Dirs::V2(_) => "memory.events",
    };
    let dir = memory_dir(group)?;
    read_key(dir, file, "oom_kill")
        .ok_or_else(|| Error::malformed(dir.display().to_string(), "counts no kills"))
}

pub(super) fn watch(group: &Cgroup) -> Result<OomWatch> {
    let dir = memory_dir(group)?;
    let fd = match group.dirs {
        Dirs::V2(_) => crate::event::watch_modified(&dir.join("memory.events"))?,
        Dirs::V1(_) => {
            let event = crate::event::eventfd()?;
            let path = dir.join("memory.oom_control");
            let control = std::fs::File::open(&path).on("open", || path.display().to_string())?;
            let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            write(dir, "cgroup.event_control", &registration)?;
            event
        }
    };
    Ok(OomWatch { fd })
}

fn memory_dir(group: &Cgroup) -> Result<&std::path::Path> {
    group.dir("memory").ok_or_else(|| Error::malformed("cgroup", "this machine has no memory controller"))
}
