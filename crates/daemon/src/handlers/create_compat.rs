//! What `POST /containers/create` meant in older API versions, in terms of today's request
//! (source: moby `daemon/server/router/container/container_routes.go`, `postContainersCreate`).

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use wharf_api::{
    Version,
    container::{CreateRequest, HostConfig, NetworkMode, PortBinding},
    network::EndpointSettings,
};

/// The driver option that carries settings of one interface.
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

type Endpoints = BTreeMap<String, EndpointSettings>;

/// Translates a request. Returns warnings.
///
/// # Errors
/// For what a version did not have yet and must not ignore, and for what it has no more.
pub(super) fn adapt(request: &mut CreateRequest, version: Version) -> Result<Vec<String>> {
    let mut host = request.host_config.take().unwrap_or_default();
    let mut endpoints =
        request.networking_config.take().unwrap_or_default().endpoints_config.unwrap_or_default();
    host.port_bindings.get_or_insert_default();
    name_default_network(&mut host, &mut endpoints);
    mounts(&mut host, version)?;
    ignore_newer(request, &mut host, &mut endpoints, version)?;
    let mut warnings = Vec::new();
    warnings.extend(volume_driver(&host, version));
    let mac = std::mem::take(&mut request.config.mac_address);
    warnings.extend(mac_address(&host, &mut endpoints, version, mac)?);
    warnings.extend(interface_sysctls(&mut host, &mut endpoints, version)?);
    warnings.extend(empty_port_bindings(&mut host, version));
    if host.pids_limit.is_some_and(|limit| limit <= 0) {
        host.pids_limit = None;
    }
    request.networking_config =
        Some(wharf_api::network::NetworkingConfig { endpoints_config: Some(endpoints) });
    request.host_config = Some(host);
    Ok(warnings)
}

/// `default` is the default bridge, also as a key of endpoints.
fn name_default_network(host: &mut HostConfig, endpoints: &mut Endpoints) {
    if host.network_mode.is_empty() || host.network_mode.is_default() {
        host.network_mode = NetworkMode::from("bridge");
        if let Some(endpoint) = endpoints.remove("default") {
            endpoints.insert("bridge".into(), endpoint);
        }
    }
}

/// Options of mounts that a version did not have, or did not check.
fn mounts(host: &mut HostConfig, version: Version) -> Result<()> {
    for mount in &mut host.mounts {
        if version < Version(1, 48) && mount.kind == "image" {
            return Err(Error::invalid("Mount type \"Image\" needs API v1.48 or newer"));
        }
        if version < Version(1, 42) {
            if mount.kind != "volume" {
                mount.volume_options = None;
            }
            if mount.kind != "tmpfs" {
                mount.tmpfs_options = None;
            }
        } else {
            let wrong = |what: &str| {
                Err(Error::invalid(format!("{what} must not be specified on mount type {:?}", mount.kind)))
            };
            match mount.kind.as_str() {
                kind if kind != "volume" && mount.volume_options.is_some() => return wrong("VolumeOptions"),
                kind if kind != "bind" && mount.bind_options.is_some() => return wrong("BindOptions"),
                kind if kind != "tmpfs" && mount.tmpfs_options.is_some() => return wrong("TmpfsOptions"),
                _ => {}
            }
        }
        if version < Version(1, 45) && mount.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty()) {
            return Err(Error::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
        }
        if version < Version(1, 44) && mount.kind == "bind" {
            let forced = mount.bind_options.as_ref().is_some_and(|o| o.read_only_force_recursive);
            if forced {
                return Err(Error::invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"));
            }
            if mount.read_only {
                mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
            }
        }
        if let Some(options) = &mut mount.bind_options {
            options.non_recursive &= version >= Version(1, 40);
            options.create_mountpoint &= version >= Version(1, 42);
        }
    }
    Ok(())
}

/// Settings that a version did not have are as if not given.
fn ignore_newer(
    request: &mut CreateRequest,
    host: &mut HostConfig,
    endpoints: &mut Endpoints,
    version: Version,
) -> Result<()> {
    if version < Version(1, 40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".into();
    }
    if version < Version(1, 42) {
        host.console_size = [0, 0];
    }
    if version < Version(1, 43) {
        host.annotations.clear();
    }
    if version < Version(1, 44) {
        if let Some(check) = &mut request.config.healthcheck {
            check.start_interval = 0;
        }
        if endpoints.len() > 1 {
            let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return Err(Error::invalid(format!(
                "Container cannot be created with multiple network endpoints: {names}"
            )));
        }
    }
    if version < Version(1, 48) {
        endpoints.values_mut().for_each(|endpoint| endpoint.gw_priority = 0);
    }
    Ok(())
}

fn volume_driver(host: &HostConfig, version: Version) -> Option<String> {
    if host.volume_driver.is_empty() || version < Version(1, 48) {
        return None;
    }
    let has_own = |mount: &wharf_api::mount::Mount| {
        let driver = mount.volume_options.as_ref().and_then(|o| o.driver_config.as_ref());
        driver.is_some_and(|d| !d.name.is_empty())
    };
    host.mounts.iter().any(|m| m.kind == "volume" && !has_own(m)).then(|| {
        "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".into()
    })
}

/// The container's hardware address of old becomes that of its main endpoint.
fn mac_address(
    host: &HostConfig,
    endpoints: &mut Endpoints,
    version: Version,
    mac: String,
) -> Result<Option<String>> {
    if version >= Version(1, 52) {
        return Ok(None);
    }
    let attached = host.network_mode.is_bridge() || host.network_mode.is_user_defined();
    if version < Version(1, 44) {
        if mac.is_empty() {
            endpoints.values_mut().for_each(|endpoint| endpoint.mac_address.clear());
        } else if attached {
            endpoint_for(&host.network_mode, endpoints, version)?.mac_address = mac;
        } else {
            return Err(Error::invalid("conflicting options: mac-address and the network mode"));
        }
        return Ok(None);
    }
    if mac.is_empty() {
        return Ok(None);
    }
    if attached {
        let endpoint = endpoint_for(&host.network_mode, endpoints, version).map_err(|e| {
            Error::invalid(format!("unable to migrate container-wide MAC address to a specific network: {e}"))
        })?;
        if endpoint.mac_address.is_empty() {
            endpoint.mac_address = mac;
        } else if endpoint.mac_address != mac {
            return Err(Error::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
    }
    Ok(Some(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .into(),
    ))
}

/// The endpoint that a setting of the whole container is meant for; made where there is none at all.
fn endpoint_for<'a>(
    mode: &NetworkMode,
    endpoints: &'a mut Endpoints,
    version: Version,
) -> Result<&'a mut EndpointSettings> {
    let name = mode.network_name().to_owned();
    if endpoints.is_empty() {
        return Ok(endpoints.entry(name).or_default());
    }
    let found =
        if version < Version(1, 44) { endpoints.values_mut().next() } else { endpoints.get_mut(&name) };
    found.ok_or_else(|| {
        Error::invalid(
            "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
        )
    })
}

/// Kernel parameters of `eth0` belong to the endpoint since 1.46; 1.48 moves them no more.
fn interface_sysctls(
    host: &mut HostConfig,
    endpoints: &mut Endpoints,
    version: Version,
) -> Result<Option<String>> {
    if !host.network_mode.is_private() {
        return Ok(None);
    }
    let mut moved: Vec<(String, String)> = Vec::new();
    for (key, value) in &host.sysctls {
        let parts: Vec<&str> = key.splitn(5, '.').collect();
        let ["net", family, kind, interface, setting] = parts[..] else { continue };
        if !interface.starts_with("eth") {
            continue;
        }
        let refuse = |text: String| Err(Error::new(wharf_spec::ErrorKind::System, text));
        if version > Version(1, 47) {
            return refuse(format!(
                "interface specific sysctl setting {key:?} must be supplied using driver option '{ENDPOINT_SYSCTLS}'"
            ));
        }
        if interface != "eth0" {
            return refuse(format!(
                "unable to determine network endpoint for sysctl {key}, use driver option '{ENDPOINT_SYSCTLS}' to set per-interface sysctls"
            ));
        }
        moved.push((key.clone(), format!("net.{family}.{kind}.IFNAME.{setting}={value}")));
    }
    let Some((first, _)) = moved.first() else { return Ok(None) };
    let endpoint = endpoint_for(&host.network_mode, endpoints, version)
        .map_err(|e| Error::invalid(format!("unable to find a network for sysctl {first}: {e}")))?;
    let join = |texts: Vec<&str>| texts.join(",");
    let keys = join(moved.iter().map(|(key, _)| key.as_str()).collect());
    let option = join(moved.iter().map(|(_, setting)| setting.as_str()).collect());
    let options = endpoint.driver_opts.get_or_insert_default();
    let known = options.remove(ENDPOINT_SYSCTLS).map(|known| format!(",{known}")).unwrap_or_default();
    options.insert(ENDPOINT_SYSCTLS.into(), format!("{option}{known}"));
    host.sysctls.retain(|key, _| !moved.iter().any(|(gone, _)| gone == key));
    Ok(Some(format!("Migrated sysctl {keys:?} to DriverOpts{{{ENDPOINT_SYSCTLS:?}:{option:?}}}.")))
}

/// A port bound to nothing in particular is bound to any address and port.
fn empty_port_bindings(host: &mut HostConfig, version: Version) -> Option<String> {
    let mut empty = Vec::new();
    for (port, bindings) in host.port_bindings.iter_mut().flatten() {
        if bindings.as_ref().is_none_or(Vec::is_empty) {
            *bindings = Some(vec![PortBinding::default()]);
            empty.push(port.to_string());
        }
    }
    (version >= Version(1, 52) && !empty.is_empty()).then(|| {
        let ports = empty.join(", ");
        format!(
            "Following container port(s) have an empty list of port-bindings: {ports}. Such bindings will be discarded in a future version."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(json: &str, minor: u32) -> Result<(CreateRequest, Vec<String>), String> {
        let (mut request, _) = CreateRequest::from_json(json.as_bytes()).unwrap();
        let warnings = adapt(&mut request, Version(1, minor)).map_err(|e| e.to_string())?;
        Ok((request, warnings))
    }

    fn endpoint(request: &CreateRequest, name: &str) -> EndpointSettings {
        request.networking_config.clone().unwrap().endpoints_config.unwrap()[name].clone()
    }

    #[test]
    fn the_default_network_is_the_bridge() {
        let (request, _) =
            adapted(r#"{"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["a"]}}}}"#, 47).unwrap();
        assert!(request.host_config.as_ref().unwrap().network_mode.is_bridge());
        assert_eq!(endpoint(&request, "bridge").aliases.unwrap(), ["a"]);
    }

    #[test]
    fn the_hardware_address_moves() {
        let json = r#"{"MacAddress":"02:42:ac:11:00:02"}"#;
        let (request, warnings) = adapted(json, 43).unwrap();
        assert_eq!(endpoint(&request, "bridge").mac_address, "02:42:ac:11:00:02");
        assert!(warnings.is_empty() && request.config.mac_address.is_empty());
        assert_eq!(adapted(json, 47).unwrap().1.len(), 1);
        let (request, warnings) = adapted(json, 52).unwrap();
        assert!(
            warnings.is_empty() && request.networking_config.unwrap().endpoints_config.unwrap().is_empty()
        );
        let host = r#"{"MacAddress":"02:42:ac:11:00:02","HostConfig":{"NetworkMode":"host"}}"#;
        assert_eq!(adapted(host, 43).unwrap_err(), "conflicting options: mac-address and the network mode");
    }

    #[test]
    fn what_came_later_is_ignored_or_refused() {
        let json = r#"{"HostConfig":{"Annotations":{"a":"b"},"ConsoleSize":[1,2],"PidsLimit":-1,
            "Mounts":[{"Type":"bind","ReadOnly":true,"BindOptions":{"CreateMountpoint":true},"VolumeOptions":{}}]}}"#;
        let (request, _) = adapted(json, 41).unwrap();
        let host = request.host_config.unwrap();
        assert!(host.annotations.is_empty() && host.console_size == [0, 0] && host.pids_limit.is_none());
        let bind = host.mounts[0].bind_options.clone().unwrap();
        assert!(
            !bind.create_mountpoint
                && bind.read_only_non_recursive
                && host.mounts[0].volume_options.is_none()
        );
        assert_eq!(
            adapted(json, 47).unwrap_err(),
            "VolumeOptions must not be specified on mount type \"bind\""
        );
        let image = r#"{"HostConfig":{"Mounts":[{"Type":"image"}]}}"#;
        assert_eq!(adapted(image, 47).unwrap_err(), "Mount type \"Image\" needs API v1.48 or newer");
        assert!(adapted(image, 48).is_ok());
        let two = r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}"#;
        assert_eq!(
            adapted(two, 43).unwrap_err(),
            "Container cannot be created with multiple network endpoints: a, b"
        );
    }

    #[test]
    fn settings_of_an_interface_move() {
        let json = r#"{"HostConfig":{"Sysctls":{"net.ipv4.conf.eth0.forwarding":"1","kernel.x":"2"}}}"#;
        let (request, warnings) = adapted(json, 46).unwrap();
        let options = endpoint(&request, "bridge").driver_opts.unwrap();
        assert_eq!(options[ENDPOINT_SYSCTLS], "net.ipv4.conf.IFNAME.forwarding=1");
        assert_eq!(request.host_config.unwrap().sysctls.len(), 1);
        assert_eq!(warnings.len(), 1);
        assert!(adapted(json, 48).unwrap_err().starts_with("interface specific sysctl setting"));
    }

    #[test]
    fn empty_bindings_are_filled() {
        let json = r#"{"HostConfig":{"PortBindings":{"80/tcp":[],"81/tcp":null}}}"#;
        let (request, warnings) = adapted(json, 52).unwrap();
        let bindings = request.host_config.unwrap().port_bindings.unwrap();
        assert!(bindings.values().all(|b| b.as_ref().unwrap().len() == 1));
        assert!(warnings[0].contains("80/tcp, 81/tcp"), "{warnings:?}");
        assert!(adapted(json, 51).unwrap().1.is_empty());
    }
}
