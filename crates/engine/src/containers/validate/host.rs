//! How it runs, on any system (source: moby `daemon/container.go`, validateHostConfig).

use crate::{Error, Result, containers::mounts, error::invalid};
use std::net::IpAddr;
use wharf_api::{
    container::{HostConfig, PortMap, RestartPolicy},
    port::PortRange,
};
use wharf_spec::capability;

pub(super) fn check(host: &HostConfig) -> Result<()> {
    if host.auto_remove && !host.restart_policy.is_none() {
        return invalid("can't create 'AutoRemove' container with restart policy");
    }
    for mount in &host.mounts {
        mounts::check_spec(mount, mounts::BindSource::MustExist)?;
    }
    for entry in host.extra_hosts.iter().flatten() {
        check_extra_host(entry)?;
    }
    host.port_bindings.as_ref().map_or(Ok(()), check_ports)?;
    check_restart_policy(&host.restart_policy)?;
    for (field, list) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        capability::normalize(list.as_deref().unwrap_or_default())
            .map_err(|e| Error::Invalid(format!("invalid {field}: {e}")))?;
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return invalid(format!("invalid isolation '{}' on linux", host.isolation));
    }
    if host.annotations.contains_key("") {
        return invalid("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    Ok(())
}

/// `name:address`, where the address may have colons (source: moby `opts/hosts.go`).
fn check_extra_host(entry: &str) -> Result<()> {
    match entry.split_once(':') {
        None | Some(("", _)) => invalid(format!("bad format for add-host: {entry:?}")),
        Some((_, "host-gateway")) => Ok(()),
        Some((_, address)) => match bare_address(address).parse::<IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => invalid(format!("invalid IP address in add-host: {address:?}")),
        },
    }
}

fn bare_address(text: &str) -> &str {
    text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text)
}

fn check_ports(ports: &PortMap) -> Result<()> {
    for (port, bindings) in ports {
        if port.number() == 0 {
            return invalid(format!("invalid port specification: {:?}", port.as_str()));
        }
        for binding in bindings.iter().flatten().filter(|b| !b.host_port.is_empty()) {
            if binding.host_port.parse::<PortRange>().is_err() {
                return invalid(format!("invalid port specification: {:?}", binding.host_port));
            }
        }
    }
    Ok(())
}

/// Source: moby `api/types/container/hostconfig.go`, ValidateRestartPolicy.
fn check_restart_policy(policy: &RestartPolicy) -> Result<()> {
    let retries = policy.maximum_retry_count;
    match policy.name.as_str() {
        "" => Ok(()),
        "always" | "unless-stopped" | "no" if retries == 0 => Ok(()),
        "always" | "unless-stopped" | "no" => {
            let negative = if retries < 0 { " and cannot be negative" } else { "" };
            invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}"
            ))
        }
        "on-failure" if retries < 0 => {
            invalid("invalid restart policy: maximum retry count cannot be negative")
        }
        "on-failure" => Ok(()),
        other => invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use wharf_api::{container::PortBinding, port::Port};

    fn error(host: HostConfig) -> String {
        check(&host).map_or_else(|e| e.to_string(), |()| "fine".into())
    }

    fn restart(name: &str, retries: i64) -> HostConfig {
        let restart_policy = RestartPolicy { name: name.into(), maximum_retry_count: retries };
        HostConfig { restart_policy, ..Default::default() }
    }

    #[test]
    fn errors_are_dockers() {
        assert_eq!(
            error(restart("sometimes", 0)),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        );
        assert_eq!(
            error(restart("always", 3)),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        );
        assert_eq!(
            error(HostConfig { auto_remove: true, ..restart("always", 0) }),
            "can't create 'AutoRemove' container with restart policy"
        );
        assert_eq!(error(HostConfig { auto_remove: true, ..restart("no", 0) }), "fine");
        let cap = HostConfig { cap_add: Some(vec!["NOT_A_CAP".into()]), ..Default::default() };
        assert_eq!(error(cap), "invalid CapAdd: unknown capability: \"CAP_NOT_A_CAP\"");
        let extra = |e: &str| HostConfig { extra_hosts: Some(vec![e.into()]), ..Default::default() };
        assert_eq!(error(extra("nocolon")), "bad format for add-host: \"nocolon\"");
        assert_eq!(error(extra("a:bad")), "invalid IP address in add-host: \"bad\"");
        for good in ["a:1.2.3.4", "a:::1", "a:[::1]", "a:host-gateway"] {
            assert_eq!(error(extra(good)), "fine", "{good}");
        }
    }

    #[test]
    fn ports_are_checked() {
        let bound = |port: Port, host_port: &str| {
            let binding = PortBinding { host_ip: String::new(), host_port: host_port.into() };
            HostConfig {
                port_bindings: Some(BTreeMap::from([(port, Some(vec![binding]))])),
                ..Default::default()
            }
        };
        let web = || Port::new(80, "tcp");
        assert_eq!(error(bound(web(), "99999")), "invalid port specification: \"99999\"");
        assert_eq!(error(bound(Port::new(0, "tcp"), "1")), "invalid port specification: \"0/tcp\"");
        assert_eq!(error(bound(web(), "8000-8010")), "fine");
        assert_eq!(error(bound(Port::new(80, "xyz"), "1")), "fine");
    }
}
