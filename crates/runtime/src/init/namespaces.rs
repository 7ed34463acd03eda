//! The namespaces that clone3 has not made: joined ones, the cgroup namespace, and settling into a user
//! namespace.

use super::Setup;
use crate::error::{Result, Step};
use wharf_spec::plan::{Namespace, Plan};
use wharf_sys::process::{self, Namespaces};

/// Enters group and namespaces.
pub(super) fn enter(setup: &Setup<'_>) -> Result<()> {
    let namespaces = &setup.plan.namespaces;
    if let Some(group) = setup.enter {
        group.join.enter_v1().step(|| "unable to apply cgroup configuration")?;
    }
    if let Some(joined) = setup.joined {
        joined.enter()?;
    }
    if namespaces.user != Namespace::Host {
        setup.sync.await_maps()?;
        become_root()?;
    }
    // Its root is the group this process is in now.
    if namespaces.cgroup == Namespace::New {
        process::unshare(Namespaces::CGROUP).step(|| "unshare cgroup namespace")?;
    }
    Ok(())
}

/// Becomes root of the user namespace, which owns what is made next.
pub(super) fn become_root() -> Result<()> {
    process::set_groups(&[]).step(|| "drop groups in user namespace")?;
    process::set_ids(0, 0).step(|| "become root in user namespace")
}

/// Sets host and domain name.
pub(super) fn set_names(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        process::set_hostname(name).step(|| "sethostname")?;
    }
    if let Some(name) = &plan.domainname {
        process::set_domainname(name).step(|| "setdomainname")?;
    }
    Ok(())
}
