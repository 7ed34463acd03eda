//! A container's control group: made and limited before its first process is born into it.

use crate::error::{Error, Result, Step};
use crate::systemd::{self, Placeholder};
use wharf_spec::plan::{DeviceKind, DeviceRule, Plan, Resources};
use wharf_sys::Errno;
use wharf_sys::cgroup::{Cgroup, Hierarchies, Join};
use wharf_sys::process::SingleThreaded;

/// The group of a container that is being made.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) cgroup: Cgroup,
    pub(crate) join: Join,
    pub(crate) warnings: Vec<String>,
    /// In a scope of systemd, until the first process is there.
    placeholder: Option<Placeholder>,
}

impl Group {
    /// The first process is in the group: the placeholder goes, and the number of processes is limited to what was
    /// asked for.
    pub(crate) fn is_inhabited(&mut self, resources: &Resources) -> Result<()> {
        if self.placeholder.take().is_none() || resources.pids_limit.is_none() {
            return Ok(());
        }
        let pids = Resources { pids_limit: resources.pids_limit, ..Resources::default() };
        limit(&self.cgroup, &pids).map(drop)
    }
}

/// Makes the group that a plan names and sets its limits; `None` when the plan stays in the caller's, or has to
/// and may.
pub(crate) fn prepare(
    plan: &Plan,
    proof: SingleThreaded,
    warnings: &mut Vec<String>,
) -> Result<Option<Group>> {
    if plan.cgroup.path.is_empty() {
        return Ok(None);
    }
    match make(plan, proof) {
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

fn make(plan: &Plan, proof: SingleThreaded) -> Result<Group> {
    let hierarchies = Hierarchies::detect().step(|| "unable to apply cgroup configuration")?;
    let mut resources = plan.cgroup.resources.clone();
    let (cgroup, mut warnings, placeholder) = match &plan.cgroup.scope {
        None => {
            let (cgroup, warnings) =
                hierarchies.create(&plan.cgroup.path).step(|| "unable to apply cgroup configuration")?;
            (cgroup, warnings, None)
        }
        Some(scope) => {
            let cgroup =
                hierarchies.group(&plan.cgroup.path).step(|| "unable to apply cgroup configuration")?;
            let placeholder = systemd::start(scope, &resources, proof)?;
            // Room for both, until one of them goes.
            resources.pids_limit = resources.pids_limit.map(|most| if most > 0 { most + 1 } else { most });
            (cgroup, Vec::new(), Some(placeholder))
        }
    };
    let limited = limit(&cgroup, &resources).and_then(|more| {
        warnings.extend(more);
        cgroup.open_join().step(|| "unable to apply cgroup configuration")
    });
    match limited {
        Ok(join) => Ok(Group { cgroup, join, warnings, placeholder }),
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
