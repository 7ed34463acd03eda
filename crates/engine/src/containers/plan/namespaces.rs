//! Namespaces: new ones, the host's, another container's; and the kernel parameters that live in them.

use super::Fds;
use crate::{Error, Result};
use std::{os::fd::OwnedFd, path::Path, sync::Arc};
use wharf_api::container as api;
use wharf_spec::plan::{IdMaps, Namespace, Namespaces, Source};

/// The network namespace of a starting container.
#[derive(Debug)]
pub(crate) enum Netns {
    /// The host's.
    Host,
    /// A new one that nobody else knows, with a loopback device.
    New,
    /// One that is there, open.
    Open(OwnedFd),
}

/// Main processes of the containers whose namespaces are joined.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Joined {
    pub(crate) pid: Option<i32>,
    pub(crate) ipc: Option<i32>,
}

/// The user namespace of a starting container.
#[derive(Debug)]
pub(crate) enum Userns {
    /// The host's.
    Host,
    /// A new one with these maps.
    New(Arc<IdMaps>),
    /// One that is there, open, and its maps.
    Open(OwnedFd, Arc<IdMaps>),
}

impl Userns {
    /// Its maps.
    pub(crate) fn ids(&self) -> Option<Arc<IdMaps>> {
        match self {
            Self::Host => None,
            Self::New(ids) | Self::Open(_, ids) => Some(Arc::clone(ids)),
        }
    }
}

/// The namespaces of a plan.
///
/// # Errors
/// When the namespace of another container cannot be opened: it has ended meanwhile.
pub(super) fn namespaces(
    host: &api::HostConfig,
    netns: Netns,
    (joined, userns): (Joined, Userns),
    fds: &mut Fds,
) -> Result<Namespaces> {
    let pid = match joined.pid {
        Some(pid) => join(pid, "pid", fds)?,
        None if host.pid_mode.is_host() => Namespace::Host,
        None => Namespace::New,
    };
    let ipc = match joined.ipc {
        Some(pid) => join(pid, "ipc", fds)?,
        None if host.ipc_mode.is_host() => Namespace::Host,
        None => Namespace::New,
    };
    let network = match netns {
        Netns::Host => Namespace::Host,
        Netns::New => Namespace::New,
        Netns::Open(fd) => Namespace::Join(Source::Fd(fds.add(fd))),
    };
    let uts = if host.uts_mode.is_host() { Namespace::Host } else { Namespace::New };
    let cgroup = if host.cgroupns_mode.as_str() == "private" { Namespace::New } else { Namespace::Host };
    let id_maps = userns.ids().map(|ids| (*ids).clone());
    let user = match userns {
        Userns::Host => Namespace::Host,
        Userns::New(_) => Namespace::New,
        Userns::Open(fd, _) => Namespace::Join(Source::Fd(fds.add(fd))),
    };
    Ok(Namespaces { pid, network, ipc, uts, cgroup, user, id_maps, ..Namespaces::default() })
}

fn join(pid: i32, kind: &str, fds: &mut Fds) -> Result<Namespace> {
    Ok(Namespace::Join(Source::Fd(fds.add(open_namespace(pid, kind)?))))
}

/// Opens a namespace of a running process.
///
/// # Errors
/// When the process has ended.
pub(crate) fn open_namespace(pid: i32, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{kind}");
    match std::fs::File::open(&path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(Error::Io { step: "open namespace", path: path.into(), source }),
    }
}

/// Kernel parameters: Docker's two defaults for a network namespace of the container's own, then its own ones
/// (source: moby `daemon/oci_linux.go`, withCommonOptions and WithSysctls). Groups that may send echo requests can be
/// named in the host's user namespace only.
pub(super) fn sysctls(host: &api::HostConfig, in_user_namespace: bool) -> Vec<(String, String)> {
    let mut all = std::collections::BTreeMap::new();
    if host.network_mode.is_private() {
        for (name, value) in
            [("net.ipv4.ping_group_range", "0 2147483647"), ("net.ipv4.ip_unprivileged_port_start", "0")]
        {
            if in_user_namespace && name == "net.ipv4.ping_group_range" {
                continue;
            }
            if Path::new("/proc/sys").join(name.replace('.', "/")).exists() {
                all.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    all.extend(host.sysctls.clone());
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_become_namespaces() {
        let mut fds = Fds::default();
        let host = api::HostConfig { cgroupns_mode: "private".into(), ..Default::default() };
        let new = namespaces(&host, Netns::New, (Joined::default(), Userns::Host), &mut fds).unwrap();
        assert_eq!((new.pid, new.network, new.cgroup), (Namespace::New, Namespace::New, Namespace::New));
        let host = api::HostConfig {
            pid_mode: "host".into(),
            ipc_mode: "host".into(),
            uts_mode: "host".into(),
            ..Default::default()
        };
        let shared = namespaces(&host, Netns::Host, (Joined::default(), Userns::Host), &mut fds).unwrap();
        assert_eq!([shared.pid, shared.network, shared.ipc, shared.uts], [const { Namespace::Host }; 4]);
        assert!(fds.0.is_empty() && shared.id_maps.is_none());
        let ids = Arc::new(IdMaps::default());
        let inside = (Joined::default(), Userns::New(ids));
        let inside = namespaces(&host, Netns::Host, inside, &mut fds).unwrap();
        assert_eq!((inside.user, inside.id_maps), (Namespace::New, Some(IdMaps::default())));
        let me = i32::try_from(std::process::id()).unwrap();
        let joined = Joined { pid: Some(me), ipc: None };
        let got = namespaces(&host, Netns::Host, (joined, Userns::Host), &mut fds).unwrap();
        assert!(matches!(got.pid, Namespace::Join(Source::Fd(fd)) if fd.0 == 0));
        assert!(open_namespace(0, "pid").is_err());
    }

    #[test]
    fn own_parameters_win() {
        let mut host = api::HostConfig { network_mode: "bridge".into(), ..Default::default() };
        host.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "1024".into());
        let all = sysctls(&host, false);
        assert!(all.contains(&("net.ipv4.ip_unprivileged_port_start".into(), "1024".into())));
        host.network_mode = "host".into();
        assert_eq!(sysctls(&host, false).len(), 1);
        host = api::HostConfig { network_mode: "bridge".into(), ..Default::default() };
        assert!(!sysctls(&host, true).iter().any(|(name, _)| name.contains("ping_group")));
    }
}
