//! Checks of the merged configuration (source: moby `daemon/config/config.go`, `Validate`).

use super::{
    options::{OPTIONS, Support, parse_bytes},
    settings::Settings,
};
use serde_json::Value;
use std::collections::BTreeMap;
use wharf_api::Version;
use wharf_engine::{config::CgroupDriver, networks::check_publish_allow};

/// The unix socket when no host is given.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

type Check = Result<(), String>;

/// Checks everything and completes hosts and labels.
pub(super) fn settings(s: &mut Settings) -> Check {
    refuse_unbuilt(s)?;
    if !matches!(
        s.log_level.to_lowercase().as_str(),
        "panic" | "fatal" | "error" | "warn" | "info" | "debug" | "trace"
    ) {
        return Err(format!("invalid logging level: {}", s.log_level));
    }
    if !matches!(s.log_format.as_str(), "text" | "json") {
        return Err(format!("invalid log format: {}", s.log_format));
    }
    s.labels = conflict_free_labels(&s.labels)?;
    numbers(s)?;
    exec_options(&s.exec_opts)?;
    cgroup_parent(s)?;
    container_size(&s.storage_opts)?;
    modes(s)?;
    runtimes(s)?;
    bridge(s)?;
    min_api_version(&s.min_api_version)?;
    gateways(s)?;
    cdi(s);
    s.hosts = hosts(&s.hosts, s.tls().is_some())?;
    Ok(())
}

/// Options that Wharf does not do are taken in dockerd's default only.
fn refuse_unbuilt(s: &Settings) -> Check {
    for option in OPTIONS {
        let (Support::Only(default), Some(given)) = (option.support, s.unbuilt.get(option.key)) else {
            continue;
        };
        let is_default = serde_json::from_str::<Value>(default).is_ok_and(|default| default == *given);
        if !is_default {
            return Err(format!("the option {:?} of dockerd is not built in Wharf yet", option.key));
        }
    }
    match s.storage_driver.as_str() {
        "" | "overlay2" => Ok(()),
        other => Err(format!("the storage driver {other:?} is not built in Wharf")),
    }?;
    if s.features.get("containerd-snapshotter") == Some(&true) {
        return Err("the feature \"containerd-snapshotter\" is not built in Wharf".into());
    }
    Ok(())
}

/// Labels as `key=value`, each key once (source: moby `GetConflictFreeLabels`, `opts.ValidateLabel`).
fn conflict_free_labels(labels: &[String]) -> Result<Vec<String>, String> {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for label in labels {
        let Some((key, value)) = label.split_once('=') else {
            return Err(format!("bad attribute format: {label}"));
        };
        match known.insert(key, value) {
            Some(before) if before != value => {
                return Err(format!("conflict labels for {key}={value} and {key}={before}"));
            }
            _ => {}
        }
    }
    Ok(known.into_iter().map(|(key, value)| format!("{key}={value}")).collect())
}

fn numbers(s: &Settings) -> Check {
    for (value, what) in [
        (s.mtu, "default MTU"),
        (s.max_concurrent_downloads, "max concurrent downloads"),
        (s.max_concurrent_uploads, "max concurrent uploads"),
        (s.max_download_attempts, "max download attempts"),
        (s.default_stop_timeout, "default stop timeout"),
    ] {
        if value < 0 {
            return Err(format!("invalid {what}: {value}"));
        }
    }
    if u32::try_from(s.mtu).is_err() {
        return Err(format!("invalid default MTU: {}", s.mtu));
    }
    if s.default_shm_size.0 <= 0 {
        return Err(format!("invalid default shm size: {}", s.default_shm_size.0));
    }
    Ok(())
}

const DRIVER: &str = "native.cgroupdriver";

/// Who makes control groups: what was asked for, else what is usual on this machine.
pub(super) fn cgroup_driver(exec_options: &[String]) -> CgroupDriver {
    let asked = exec_options.iter().rev().filter_map(|option| option.split_once('=')).find_map(
        |(key, value)| match (key.trim().to_lowercase().as_str(), value.trim()) {
            (DRIVER, "systemd") => Some(CgroupDriver::Systemd),
            (DRIVER, "cgroupfs") => Some(CgroupDriver::Cgroupfs),
            _ => None,
        },
    );
    asked.unwrap_or_else(CgroupDriver::usual)
}

fn cgroup_parent(s: &Settings) -> Check {
    if s.cgroup_parent.is_empty() {
        Ok(())
    } else {
        cgroup_driver(&s.exec_opts).check_parent(&s.cgroup_parent)
    }
}

/// What a container may write, of `--storage-opt`; 0 is everything (source: moby
/// `daemon/graphdriver/overlay2/overlay.go`, parseOptions). The check of the kernel has not been there for long, and
/// the option to leave it out is taken as Docker took it to the end: ignored.
pub(super) fn container_size(options: &[String]) -> Result<u64, String> {
    let mut size = 0;
    for option in options {
        let Some((key, value)) = option.split_once('=') else {
            return Err(format!("unable to parse storage-opt key/value: {option}"));
        };
        match key.trim().to_lowercase().as_str() {
            "overlay2.size" => {
                let bytes = parse_bytes(value).and_then(|bytes| u64::try_from(bytes).ok());
                size = bytes.ok_or_else(|| format!("invalid size: '{}'", value.trim()))?;
            }
            "overlay2.override_kernel_check" => {}
            other => return Err(format!("overlay2: unknown option {other}")),
        }
    }
    Ok(size)
}

fn exec_options(options: &[String]) -> Check {
    for option in options {
        let parts = option.split_once('=').map(|(k, v)| (k.trim().to_lowercase(), v.trim()));
        match parts {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => match (key.as_str(), value) {
                (DRIVER, "cgroupfs" | "systemd") => {}
                (DRIVER, "none") => {
                    return Err(format!(
                        "{DRIVER} option none is internally used and cannot be specified manually"
                    ));
                }
                (DRIVER, other) => return Err(format!("{DRIVER} option {other} not supported")),
                (other, _) => return Err(format!("invalid exec-opt ({option}): unknown option: '{other}'")),
            },
            _ => return Err(format!("invalid exec-opt ({option}): must be formatted 'opt=value'")),
        }
    }
    Ok(())
}

fn modes(s: &Settings) -> Check {
    const HINT: &str = "use \"shareable\" or \"private\"";
    match s.default_ipc_mode.as_str() {
        "" | "private" | "shareable" => {}
        mode @ ("host" | "none") => {
            return Err(format!("IPC mode \"{mode}\" is not supported as default value; {HINT}"));
        }
        mode => return Err(format!("default IPC mode setting ({mode}) is invalid; {HINT}")),
    }
    match s.default_cgroupns_mode.as_str() {
        "" | "private" | "host" => Ok(()),
        mode => {
            Err(format!("default cgroup namespace mode ({mode}) is invalid. Use \"host\" or \"private\""))
        }
    }
}

fn runtimes(s: &Settings) -> Check {
    for (name, runtime) in &s.runtimes {
        if name == "runc" {
            return Err("runtime name 'runc' is reserved".into());
        }
        let refuse = |why: &str| Err(format!("runtime {name}: {why}"));
        match (runtime.path.is_empty(), runtime.runtime_type.is_empty()) {
            (true, true) => return refuse("either a runtimeType or a path must be configured"),
            (false, false) => {
                return refuse("cannot configure both path and runtimeType for the same runtime");
            }
            (true, false) => return refuse("a runtimeType is not built in Wharf yet"),
            (false, true) => {}
        }
    }
    let is_stock = matches!(s.default_runtime.as_str(), "runc" | "io.containerd.runc.v2");
    if !is_stock && !s.runtimes.contains_key(&s.default_runtime) {
        return Err(format!("specified default runtime '{}' does not exist", s.default_runtime));
    }
    Ok(())
}

/// Source: moby `daemon/daemon_unix.go`, `verifyDaemonSettings`.
fn bridge(s: &Settings) -> Check {
    if !s.bridge.is_empty() && !s.bip.is_empty() {
        return Err("You specified -b & --bip, mutually exclusive options. Please specify only one".into());
    }
    if !s.bridge.is_empty() && !s.bip6.is_empty() {
        return Err("You specified -b & --bip6, mutually exclusive options. Please specify only one".into());
    }
    if s.ipv6 && !s.ip6tables && !s.icc && s.iptables {
        return Err(
            "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. Please set --icc or --ip6tables to true"
                .into(),
        );
    }
    if !s.iptables && !s.icc {
        return Err(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true"
                .into(),
        );
    }
    if !matches!(s.publish_mode.as_str(), "docker" | "filtered") {
        return Err(format!("invalid publish-mode {:?}: neither docker nor filtered", s.publish_mode));
    }
    if s.publish_mode == "filtered" && !s.iptables {
        return Err("publish-mode filtered needs iptables: nothing is published without".into());
    }
    check_publish_allow(&s.publish_allow, &s.publish_allow_set).map_err(|error| error.to_string())
}

/// Source: moby `daemon/config/config.go`, `ValidateMinAPIVersion`.
pub(super) fn min_api_version(text: &str) -> Check {
    if text.is_empty() {
        return Err("value is empty".into());
    }
    if text.starts_with(['v', 'V']) {
        return Err("API version must be provided without \"v\" prefix".into());
    }
    let version: Version = text.parse().map_err(|e: wharf_api::Error| e.to_string())?;
    if version < Version::MIN {
        return Err(format!("minimum supported API version is {}: {text}", Version::MIN));
    }
    if version > Version::MAX {
        return Err(format!("maximum supported API version is {}: {text}", Version::MAX));
    }
    Ok(())
}

/// At most one address of each family (source: moby `daemon/internal/opts/host_gateway_opts.go`).
fn gateways(s: &mut Settings) -> Check {
    if s.host_gateway_ips.is_empty() {
        s.host_gateway_ips.extend(s.host_gateway_ip);
    }
    let count = |v4: bool| s.host_gateway_ips.iter().filter(|ip| ip.is_ipv4() == v4).count();
    for (family, n) in [("IPv4", count(true)), ("IPv6", count(false))] {
        if n > 1 {
            return Err(format!("only one {family} host gateway IP address can be specified"));
        }
    }
    Ok(())
}

/// An empty name, and the feature `cdi` when it is off, turn CDI off (source: moby `daemon/command/daemon.go`).
fn cdi(s: &mut Settings) {
    let is_off = s.features.get("cdi") == Some(&false);
    if is_off || matches!(s.cdi_spec_dirs.as_slice(), [only] if only.is_empty()) {
        s.cdi_spec_dirs.clear();
    }
}

/// Completes addresses; none at all is the default socket, with TLS the default port (source: moby
/// `daemon/pkg/opts/hosts.go`).
fn hosts(given: &[String], tls: bool) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for host in given.iter().map(|h| h.trim()).filter(|h| !h.is_empty()) {
        all.push(complete_host(host, tls)?);
    }
    if all.is_empty() {
        all.push(if tls { "tcp://localhost:2376".into() } else { format!("unix://{DEFAULT_SOCKET}") });
    }
    Ok(all)
}

fn complete_host(host: &str, tls: bool) -> Result<String, String> {
    let (protocol, address) = host.split_once("://").unwrap_or(("tcp", host));
    let bad = |why: String| format!("invalid bind address ({host}): {why}");
    match protocol {
        "unix" if address.contains("://") => Err(bad(format!("invalid unix address: {address}"))),
        "unix" if address.is_empty() => Ok(format!("unix://{DEFAULT_SOCKET}")),
        "unix" => Ok(host.to_owned()),
        "fd" => Ok(host.to_owned()),
        "tcp" => {
            let (name, port) = split_port(address, if tls { 2376 } else { 2375 }).map_err(bad)?;
            let name = if name.is_empty() { "localhost" } else { name };
            Ok(format!("tcp://{name}:{port}"))
        }
        other => Err(bad(format!("unsupported proto '{other}'"))),
    }
}

/// Host, brackets kept, and port of an address.
fn split_port(address: &str, default: u16) -> Result<(&str, u16), String> {
    if address.contains('/') {
        return Err("should not contain a path element".into());
    }
    let after_brackets = address.rfind(']').map_or(0, |at| at + 1);
    match address[after_brackets..].rfind(':') {
        None => Ok((address, default)),
        Some(at) => {
            let (name, port) = address.split_at(after_brackets + at);
            match port[1..].parse::<u16>() {
                _ if port == ":" => Ok((name, default)),
                Ok(number) if number != 0 => Ok((name, number)),
                _ => Err(format!("invalid port: {}", &port[1..])),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_hosts() {
        assert_eq!(complete_host("tcp://x", true).unwrap(), "tcp://x:2376");
        assert_eq!(hosts(&[], true).unwrap(), ["tcp://localhost:2376"]);
        assert_eq!(complete_host("tcp://:1234", false).unwrap(), "tcp://localhost:1234");
        assert_eq!(complete_host("tcp://[::]", false).unwrap(), "tcp://[::]:2375");
        assert!(complete_host("tcp://x:0", false).is_err());
        assert!(complete_host("tcp://x:99999", false).is_err());
        assert_eq!(
            complete_host("tcp://x:1/y", false).unwrap_err(),
            "invalid bind address (tcp://x:1/y): should not contain a path element"
        );
    }

    #[test]
    fn resources_of_the_daemon() {
        let options = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let asked = |driver: &str| cgroup_driver(&options(&[driver]));
        assert_eq!(asked("native.cgroupdriver=systemd"), CgroupDriver::Systemd);
        assert_eq!(asked("Native.CgroupDriver = cgroupfs"), CgroupDriver::Cgroupfs);
        let parent = |driver: &str, parent: &str| {
            cgroup_parent(&Settings {
                exec_opts: options(&[driver]),
                cgroup_parent: parent.into(),
                ..Settings::default()
            })
        };
        assert!(parent("native.cgroupdriver=systemd", "foo.slice").is_ok());
        assert!(parent("native.cgroupdriver=cgroupfs", "/foo").is_ok());
        for bad in ["/foo", ".slice", "foo"] {
            assert_eq!(
                parent("native.cgroupdriver=systemd", bad).unwrap_err(),
                "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\""
            );
        }
        assert_eq!(
            container_size(&options(&["overlay2.size=10G", "overlay2.override_kernel_check=true"])),
            Ok(10 << 30)
        );
        assert_eq!(
            container_size(&options(&["dm.basesize=1G"])).unwrap_err(),
            "overlay2: unknown option dm.basesize"
        );
        assert!(container_size(&options(&["overlay2.size"])).is_err());
    }

    #[test]
    fn versions() {
        assert!(min_api_version("1.24").is_ok() && min_api_version("1.55").is_ok());
        assert_eq!(min_api_version("1.23").unwrap_err(), "minimum supported API version is 1.24: 1.23");
        assert!(min_api_version("v1.40").is_err());
    }
}
