//! A container's control group: made and limited before its first process is born into it.

use crate::error::{Result, Step};
use wharf_spec::plan::{DeviceKind, DeviceRule, Plan, Resources};
use wharf_sys::cgroup::{Cgroup, Hierarchies, Join};

/// The group of a container that is being made.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) cgroup: Cgroup,
    pub(crate) join: Join,
    pub(crate) warnings: Vec<String>,
}

/// Makes the group that a plan names and sets its limits; `None` when the plan stays in the caller's.
pub(crate) fn prepare(plan: &Plan) -> Result<Option<Group>> {
    if plan.cgroup.path.is_empty() {
        return Ok(None);
    }
    let hierarchies = Hierarchies::detect().step(|| "unable to apply cgroup configuration")?;
    let (cgroup, mut warnings) =
        hierarchies.create(&plan.cgroup.path).step(|| "unable to apply cgroup configuration")?;
    let limited = limit(&cgroup, &plan.cgroup.resources).and_then(|more| {
        warnings.extend(more);
        cgroup.open_join().step(|| "unable to apply cgroup configuration")
    });
    match limited {
        Ok(join) => Ok(Some(Group { cgroup, join, warnings })),
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

/// Appends the rules for default devices (source: runc `libcontainer/specconv/spec_linux.go`, `AllowedDevices`):
/// making any node, the nodes of `/dev` that are always made, terminals.
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
