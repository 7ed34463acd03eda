//! Modes and the rest of what only Linux has (source: moby `daemon/daemon_unix.go`,
//! verifyPlatformContainerSettings).

use super::Against;
use crate::{Error, Result, error::invalid, system::Kernel};
use wharf_api::container::{Config, HostConfig};

/// Settings that contradict the network's or the host name's mode (source: moby
/// `daemon/internal/runconfig/hostconfig.go`, `hostconfig_unix.go`).
pub(super) fn conflicts(config: &Config, host: &HostConfig) -> Result<()> {
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let ports = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let mode = &host.network_mode;
    let of_container = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (
            has(&host.links),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (has(&host.dns), "dns and the network mode"),
        (has(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
        (ports || host.publish_all_ports, "port publishing and the container type network mode"),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    if mode.as_str() == "container" || mode.container() == Some("") {
        return invalid("invalid network mode: invalid container format container:<name|id>");
    }
    let found = of_container.iter().find(|(given, _)| *given).filter(|_| mode.container().is_some());
    let of_host = [
        (host.uts_mode.is_host() && !config.hostname.is_empty(), "hostname and the UTS mode"),
        (
            mode.is_host() && has(&host.links),
            "host type networking can't be used with links. This would result in undefined behavior",
        ),
    ];
    match found.or_else(|| of_host.iter().find(|(given, _)| *given)) {
        Some((_, what)) => invalid(format!("conflicting options: {what}")),
        None => Ok(()),
    }
}

pub(super) fn check(against: &Against<'_>, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if !host.ipc_mode.is_valid() {
        return invalid(format!("invalid IPC mode: {}", host.ipc_mode));
    }
    if !host.pid_mode.is_valid() {
        return invalid(format!("invalid PID mode: {}", host.pid_mode));
    }
    if host.shm_size < 0 {
        return invalid("SHM size can not be less than 0");
    }
    if !host.uts_mode.is_valid() {
        return invalid(format!("invalid UTS mode: {}", host.uts_mode));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    let network = &host.network_mode;
    if !network.is_host() && !network.is_none() && !Kernel::ipv4_forwarding() {
        warnings.push("IPv4 forwarding is disabled. Networking will not work.".into());
    }
    if network.is_host() && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    if !host.cgroup_parent.is_empty() {
        against.engine.cgroup_driver.check_parent(&host.cgroup_parent).map_err(Error::Invalid)?;
    }
    user_namespace(against, host)?;
    if host.runtime.is_empty() {
        host.runtime.clone_from(&against.engine.live.get().default_runtime);
    }
    crate::containers::plan::check_runtime(against.engine, &host.runtime)?;
    for destination in host.tmpfs.keys() {
        crate::containers::mounts::check_target(destination)?;
    }
    if !host.cgroupns_mode.is_valid() {
        return invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    if host.cgroupns_mode.as_str() == "private" && !against.kernel.cgroup_namespaces {
        warnings.push(
            "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.".into(),
        );
    }
    Ok(())
}

/// What a container in a user namespace cannot share with the host.
fn user_namespace(against: &Against<'_>, host: &HostConfig) -> Result<()> {
    if against.engine.ids_of(host).is_none() {
        return Ok(());
    }
    if host.privileged {
        return invalid(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if host.network_mode.is_host() {
        return invalid("cannot share the host's network namespace when user namespaces are enabled");
    }
    if host.pid_mode.is_host() {
        return invalid("cannot share the host PID namespace when user namespaces are enabled");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_told_in_dockers_words() {
        let told = |mode: &str, change: &dyn Fn(&mut Config, &mut HostConfig)| {
            let mut host = HostConfig { network_mode: mode.into(), ..Default::default() };
            let mut config = Config::default();
            change(&mut config, &mut host);
            conflicts(&config, &host).map_or_else(|e| e.to_string(), |()| "fine".into())
        };
        assert_eq!(told("container:x", &|_, _| {}), "fine");
        for mode in ["container", "container:"] {
            let wanted = "invalid network mode: invalid container format container:<name|id>";
            assert_eq!(told(mode, &|_, _| {}), wanted);
        }
        let named = |config: &mut Config, _: &mut HostConfig| config.hostname = "h".into();
        assert_eq!(told("container:x", &named), "conflicting options: hostname and the network mode");
        assert_eq!(told("bridge", &named), "fine");
        let published = |_: &mut Config, host: &mut HostConfig| host.publish_all_ports = true;
        assert_eq!(
            told("container:x", &published),
            "conflicting options: port publishing and the container type network mode"
        );
        let linked = |_: &mut Config, host: &mut HostConfig| host.links = Some(vec!["a:b".into()]);
        assert!(told("host", &linked).starts_with("conflicting options: host type networking"));
        assert!(told("container:x", &linked).starts_with("conflicting options: container type network"));
        let uts = |config: &mut Config, host: &mut HostConfig| {
            (config.hostname, host.uts_mode) = ("h".into(), "host".into());
        };
        assert_eq!(told("bridge", &uts), "conflicting options: hostname and the UTS mode");
    }
}
