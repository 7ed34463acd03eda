//! What a plan must not ask for, found before anything is done (source: runc
//! `libcontainer/configs/validate/validator.go`).

use crate::error::{Error, Result};
use wharf_spec::plan::{Namespace, Plan, Process};

/// Checks a whole plan.
pub(crate) fn plan(plan: &Plan) -> Result<()> {
    process(&plan.process)?;
    if plan.namespaces.user == Namespace::New && plan.namespaces.id_maps.is_none() {
        return refuse("user namespaces enabled, but no uid and gid mappings given");
    }
    for mount in &plan.mounts {
        if !mount.target.starts_with('/') {
            return refuse(format!("invalid mount target {:?}: it is not absolute", mount.target));
        }
    }
    plan.sysctls.iter().try_for_each(|(key, _)| sysctl(plan, key))
}

/// Checks a process.
pub(crate) fn process(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return refuse("process has no arguments");
    }
    if !process.cwd.starts_with('/') {
        return refuse(format!("Cwd must be an absolute path, not {:?}", process.cwd));
    }
    let strings = process.args.iter().chain(&process.env).chain([&process.cwd]);
    match strings.into_iter().find(|text| text.contains('\0')) {
        Some(text) => refuse(format!("{text:?} contains nul byte (\\x00)")),
        None => Ok(()),
    }
}

fn refuse<T>(problem: impl Into<String>) -> Result<T> {
    Err(Error::refused("invalid configuration", problem))
}

/// System V and POSIX message queue parameters that belong to an IPC namespace.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Only parameters of namespaces that the container does not share with the host.
fn sysctl(plan: &Plan, key: &str) -> Result<()> {
    let name = with_dots(key);
    let namespaces = &plan.namespaces;
    if IPC_SYSCTLS.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
        return match namespaces.ipc {
            Namespace::Host => refuse(format!("sysctl {name:?} is not allowed in the hosts ipc namespace")),
            _ => Ok(()),
        };
    }
    if name.starts_with("net.") {
        return match namespaces.network {
            Namespace::Host => refuse(format!("sysctl {name:?} not allowed in host network namespace")),
            _ => Ok(()),
        };
    }
    if name == "kernel.domainname" && namespaces.uts != Namespace::Host {
        return Ok(());
    }
    if name == "kernel.hostname" && namespaces.uts != Namespace::Host {
        return refuse(format!(
            "sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"
        ));
    }
    if name.starts_with("user.") && namespaces.user != Namespace::Host {
        return Ok(());
    }
    refuse(format!("sysctl {name:?} is not in a separate kernel namespace"))
}

/// `net/ipv4/conf/eth0.1/x` as `net.ipv4.conf.eth0/1.x`: whichever separator comes first is the separator
/// (source: sysctl.d(5)).
fn with_dots(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => key
            .chars()
            .map(|letter| {
                if letter == '/' {
                    '.'
                } else if letter == '.' {
                    '/'
                } else {
                    letter
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// The file of a parameter, relative to `/proc/sys`.
pub(crate) fn sysctl_path(key: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    with_dots(key).chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_paths_keep_dots_of_interfaces() {
        assert_eq!(sysctl_path("net.core.somaxconn"), "net/core/somaxconn");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/rp_filter"), "net/ipv4/conf/eth0.1/rp_filter");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.rp_filter"), "net/ipv4/conf/eth0.1/rp_filter");
    }
}
