//! Who the process is: working directory, user, groups, capabilities, in the only order that works (source:
//! runc `finalizeNamespace`, `setupUser`, `fixStdioPermissions`).

use super::masks::is_null;
use super::pivot::{check_directory, enter_directory};
use crate::error::{Error, Result, Step};
use rustix::fd::BorrowedFd;
use rustix::fs::Uid;
use wharf_spec::plan::Process;
use wharf_sys::caps::{self, Sets};
use wharf_sys::path::stat;
use wharf_sys::{Errno, process};

/// What the process is to be.
pub(super) struct Identity<'a> {
    pub(super) process: &'a Process,
    /// Its working directory is entered already.
    pub(super) entered: bool,
    /// Capabilities that are not there to be given are a warning.
    pub(super) tolerate: bool,
    /// Groups may be forbidden there.
    pub(super) in_user_namespace: bool,
}

/// Enters the working directory as root: the user may not get there, or only the user may, which is told by
/// `false`.
pub(super) fn enter_as_root(process: &Process) -> Result<bool> {
    match enter_directory(&process.cwd) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(errno) => Err(cannot_enter(process, errno)),
    }
}

/// Becomes it; returns what was skipped.
pub(super) fn assume(identity: &Identity<'_>) -> Result<Vec<String>> {
    let process = identity.process;
    caps::limit_bounding(process.capabilities.bounding).step(|| "unable to apply bounding set")?;
    caps::keep_over_setuid(true).step(|| "unable to set keep caps")?;
    give_stdio(process.uid)?;
    set_groups(identity)?;
    process::set_ids(process.uid, process.gid).step(|| "unable to setup user")?;
    if !identity.entered {
        enter_directory(&process.cwd).map_err(|errno| cannot_enter(process, errno))?;
    }
    check_directory()?;
    caps::keep_over_setuid(false).step(|| "unable to clear keep caps")?;
    set_capabilities(identity)
}

fn cannot_enter(process: &Process, source: Errno) -> Error {
    Error::WorkingDirectory { path: process.cwd.clone(), source }
}

fn set_groups(identity: &Identity<'_>) -> Result<()> {
    match process::set_groups(&identity.process.additional_gids) {
        Err(error) if error.is(Errno::PERM) && identity.in_user_namespace => Ok(()),
        other => other.step(|| "unable to setup user"),
    }
}

/// Gives pipes and terminal to the user, who could not open `/dev/stdout` otherwise. What cannot be given
/// stays.
fn give_stdio(uid: u32) -> Result<()> {
    let all: [BorrowedFd<'_>; 3] = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for fd in all {
        if stat(fd).step(|| "fstat")?.st_uid == uid || is_null(fd)? {
            continue;
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(errno) => {
                return Err(errno)
                    .map_err(|errno| wharf_sys::Error::call("fchown", "stdio", errno))
                    .step(|| "unable to setup user");
            }
        }
    }
    Ok(())
}

fn set_capabilities(identity: &Identity<'_>) -> Result<Vec<String>> {
    let wanted = &identity.process.capabilities;
    let own = caps::own().step(|| "unable to apply caps")?.permitted;
    let mut warnings = Vec::new();
    let missing = wanted.permitted & !own & caps::all();
    let mut mask = u64::MAX;
    if missing != 0 {
        let names = wharf_spec::capability::names(missing).join(", ");
        if !identity.tolerate {
            return Err(Error::refused(
                "unable to apply caps",
                format!("{names} cannot be given: not there to be given"),
            ));
        }
        warnings.push(format!("capabilities that this daemon does not have are not given: {names}"));
        mask = own;
    }
    let known = caps::all() & mask;
    let sets = Sets {
        effective: wanted.effective & known,
        permitted: wanted.permitted & known,
        inheritable: wanted.inheritable & known,
    };
    caps::set(&sets).step(|| "unable to apply caps")?;
    // The kernel takes no ambient capability that is not inheritable too.
    let refused = wanted.ambient & known & !(sets.permitted & sets.inheritable);
    for name in wharf_spec::capability::names(refused) {
        warnings.push(format!("can't raise ambient capability {name}: operation not permitted"));
    }
    caps::set_ambient(wanted.ambient & sets.permitted & sets.inheritable).step(|| "unable to apply caps")?;
    Ok(warnings)
}
