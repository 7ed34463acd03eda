//! Devices: the nodes a container gets, and what its device cgroup lets it open.

use crate::{Error, Result, error::words};
use rustix::fs::{FileType, major, minor, stat};
use std::{fs, os::unix::fs::FileTypeExt, path::Path};
use wharf_api::container as api;
use wharf_spec::plan::{Device, DeviceKind, DeviceRule};

/// Nodes and rules of a container (source: moby `daemon/oci_linux.go`, WithDevices).
///
/// # Errors
/// When a device of the host does not exist or a rule is malformed.
pub(super) fn devices(host: &api::HostConfig) -> Result<(Vec<Device>, Vec<DeviceRule>)> {
    if host.privileged {
        let mut nodes = host_devices()?;
        for mapping in host.devices.iter().flatten() {
            if mapping.path_on_host != mapping.path_in_container {
                nodes.extend(mapped(mapping)?);
            }
        }
        return Ok((nodes, Vec::new()));
    }
    let mut nodes = Vec::new();
    let mut rules = default_rules();
    for mapping in host.devices.iter().flatten() {
        for device in mapped(mapping)? {
            rules.push(allow(&device, &mapping.cgroup_permissions));
            nodes.push(device);
        }
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(rule)?);
    }
    Ok((nodes, rules))
}

/// Nothing but making nodes, the devices every container has, and terminals (source: moby
/// `daemon/pkg/oci/defaults.go` and runc `libcontainer/specconv`, AllowedDevices).
fn default_rules() -> Vec<DeviceRule> {
    let deny_all = DeviceRule {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    };
    let make_any = |kind| DeviceRule { allow: true, kind: Some(kind), read: false, write: false, ..deny_all };
    let full = |major, minor| DeviceRule {
        allow: true,
        kind: Some(DeviceKind::Char),
        major: Some(major),
        minor,
        ..deny_all
    };
    let mut rules = vec![deny_all, make_any(DeviceKind::Char), make_any(DeviceKind::Block)];
    // null, zero, full, random, urandom; tty, console, ptmx; pts.
    rules.extend([3, 5, 7, 8, 9].map(|n| full(1, Some(n))));
    rules.extend([0, 1, 2].map(|n| full(5, Some(n))));
    rules.push(full(136, None));
    rules
}

fn allow(device: &Device, permissions: &str) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(device.kind),
        major: Some(device.major),
        minor: Some(device.minor),
        read: permissions.contains('r'),
        write: permissions.contains('w'),
        mknod: permissions.contains('m'),
    }
}

/// `c 42:* rmw` (source: moby `daemon/pkg/oci/oci.go`, AppendDevicePermissionsFromCgroupRules).
fn parse_rule(text: &str) -> Result<DeviceRule> {
    let bad = || Error::Refused(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let kind = match kind {
        "a" => None,
        "b" => Some(DeviceKind::Block),
        "c" => Some(DeviceKind::Char),
        _ => return Err(bad()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(Some).map_err(|_| bad()),
    };
    let known = (1..=3).contains(&access.len()) && access.bytes().all(|b| b"rwm".contains(&b));
    if !known {
        return Err(bad());
    }
    Ok(DeviceRule {
        allow: true,
        kind,
        major: number(major)?,
        minor: number(minor)?,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}

/// A device of the host, or every device below a directory (source: moby `daemon/pkg/oci/devices_linux.go`,
/// DevicesFromPath).
fn mapped(mapping: &api::DeviceMapping) -> Result<Vec<Device>> {
    let gathering = |source: std::io::Error| {
        Error::Refused(format!(
            "error gathering device information while adding custom device {:?}: {}",
            mapping.path_on_host,
            words(&source)
        ))
    };
    let resolved = fs::canonicalize(&mapping.path_on_host).map_err(gathering)?;
    if let Some(device) = node(&resolved, &mapping.path_in_container).map_err(gathering)? {
        return Ok(vec![device]);
    }
    let mut found = Vec::new();
    if resolved.is_dir() {
        walk(&resolved, &mapping.path_in_container, &mut found).map_err(gathering)?;
    }
    if found.is_empty() {
        return Err(gathering(std::io::Error::other("not a device node")));
    }
    Ok(found)
}

/// Every device of the host but those that each container has of its own (source: containerd
/// `pkg/oci/spec_opts`, HostDevices).
fn host_devices() -> Result<Vec<Device>> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), "/dev", &mut found).map_err(|source| Error::Io {
        step: "list devices",
        path: "/dev".into(),
        source,
    })?;
    Ok(found)
}

fn walk(dir: &Path, inside: &str, found: &mut Vec<Device>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let target = format!("{inside}/{name}");
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            let own = matches!(&*name, "pts" | "shm" | "fd" | "mqueue" | ".lxc" | ".lxd-mounts" | ".udev");
            if !own {
                // A directory that goes away or cannot be read has no devices for us.
                walk(&entry.path(), &target, found).ok();
            }
        } else if (kind.is_char_device() || kind.is_block_device())
            && name != "console"
            && let Some(device) = node(&entry.path(), &target)?
        {
            found.push(device);
        }
    }
    Ok(())
}

/// The device at a path; `None` when it is none.
fn node(path: &Path, inside: &str) -> std::io::Result<Option<Device>> {
    let found = stat(path)?;
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => DeviceKind::Char,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return Ok(None),
    };
    Ok(Some(Device {
        path: inside.to_owned(),
        kind,
        major: major(found.st_rdev),
        minor: minor(found.st_rdev),
        mode: found.st_mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(devices: &[(&str, &str, &str)]) -> api::HostConfig {
        let mapping = |(on_host, inside, permissions): &(&str, &str, &str)| api::DeviceMapping {
            path_on_host: (*on_host).into(),
            path_in_container: (*inside).into(),
            cgroup_permissions: (*permissions).into(),
        };
        api::HostConfig { devices: Some(devices.iter().map(mapping).collect()), ..Default::default() }
    }

    #[test]
    fn devices_of_the_host_are_mapped() {
        let (nodes, rules) = devices(&host(&[("/dev/null", "/dev/x", "rm")])).unwrap();
        assert_eq!((nodes[0].path.as_str(), nodes[0].major, nodes[0].minor), ("/dev/x", 1, 3));
        let last = rules.last().unwrap();
        assert!(last.allow && last.read && !last.write && last.mknod && last.major == Some(1));
        assert!(!rules[0].allow && rules[0].kind.is_none());
        let missing = devices(&host(&[("/dev/nosuch", "/dev/x", "rwm")])).unwrap_err().to_string();
        assert!(
            missing
                .starts_with("error gathering device information while adding custom device \"/dev/nosuch\"")
        );
        assert!(devices(&host(&[("/etc/passwd", "/dev/x", "rwm")])).is_err());
    }

    #[test]
    fn rules_are_parsed_or_refused() {
        let rule = parse_rule("c 42:* rw").unwrap();
        assert_eq!((rule.major, rule.minor, rule.mknod), (Some(42), None, false));
        assert_eq!(parse_rule("a *:* rwm").unwrap().kind, None);
        for bad in ["", "c 42:*", "x 1:1 r", "c 1 r", "c 1:1 q", "c 1:1 ", "c a:1 r", "c 1:1 r x"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn privileged_sees_all_and_is_not_limited() {
        let (nodes, rules) = devices(&api::HostConfig { privileged: true, ..Default::default() }).unwrap();
        assert!(nodes.iter().any(|d| d.path == "/dev/null"));
        assert!(!nodes.iter().any(|d| d.path.starts_with("/dev/pts/") || d.path == "/dev/console"));
        assert!(rules.is_empty());
    }
}
