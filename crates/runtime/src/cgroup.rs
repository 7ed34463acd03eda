//! A container's control group: made and limited before its first process is born into it.

use crate::error::{Error, Result, Step};
use wharf_spec::plan::{DeviceKind, DeviceRule, Plan, Resources};
use wharf_sys::Errno;
use wharf_sys::cgroup::{Cgroup, Hierarchies, Join};

/// The group of a container that is being made.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) cgroup: Cgroup,
    pub(crate) join: Join,
    pub(crate) warnings: Vec<String>,
}

/// Makes the group that a plan names and sets its limits; `None` when the plan stays in the caller's, or has to
/// and may.
pub(crate) fn prepare(plan: &Plan, warnings: &mut Vec<String>) -> Result<Option<Group>> {
    if plan.cgroup.path.is_empty() {
        return Ok(None);
    }
    match make(plan) {
        Err(error) if plan.tolerate_missing_privilege && is_forbidden(&error) => {
            warnings.push(format!("no control group, no limits: {error}"));
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// Whether this process may not have groups at all: rootless, or /sys/fs/cgroup is not there or read-only.
fn is_forbidden(error: &Error) -> bool {
    match error {
        Error::Step { source, .. } => match source.errno() {
            Some(errno) => [Errno::PERM, Errno::ACCESS, Errno::ROFS].contains(&errno),
            None => Hierarchies::detect().is_err(),
        },
        _ => false,
    }
}

fn make(plan: &Plan) -> Result<Group> {
    let hierarchies = Hierarchies::detect().step(|| "unable to apply cgroup configuration")?;
    let (cgroup, mut warnings) =
        hierarchies.create(&plan.cgroup.path).step(|| "unable to apply cgroup configuration")?;
    let limited = limit(&cgroup, &plan.cgroup.resources).and_then(|more| {
        warnings.extend(more);
        cgroup.open_join().step(|| "unable to apply cgroup configuration")
    });
    match limited {
        Ok(join) => Ok(Group { cgroup, join, warnings }),
        Err(error) => {
            // The error that led here is the one to tell.
            let _ = cgroup.remove();
            Err(error)
        }
    }
}

/// Sets limits on a group, with the devices every container may use when there are device rules at all.
pub(crate) fn limit(cgroup: &Cgroup, resources: &Resources) -> Result<Vec<String>> {
    let with_defaults;
    let resources = match resources.devices.is_empty() {
        true => resources,
        false => {
            with_defaults = with_default_devices(resources);
            &with_defaults
        }
    };
    cgroup.apply(resources).step(|| "unable to apply cgroup configuration")
}

/// Appends the rules for default devices (source: runc `libcontainer/specconv/spec_linux.go`,
/// `AllowedDevices`): making any node, the nodes of `/dev` that are always made, terminals.
fn with_default_devices(resources: &Resources) -> Resources {
    let rule = |kind, major, minor, open: bool| DeviceRule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        read: open,
        write: open,
        mknod: true,
    };
    let char = |major, minor| rule(DeviceKind::Char, Some(major), minor, true);
    let mut resources = resources.clone();
    resources.devices.extend([
        rule(DeviceKind::Char, None, None, false),
        rule(DeviceKind::Block, None, None, false),
        char(1, Some(3)),
        char(1, Some(8)),
        char(1, Some(7)),
        char(5, Some(0)),
        char(1, Some(5)),
        char(1, Some(9)),
        char(136, None),
        char(5, Some(2)),
    ]);
    resources
}
