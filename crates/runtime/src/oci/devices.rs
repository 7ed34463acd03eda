//! Device nodes and device rules of a `config.json` and of a plan.

use super::{OciResult, config, invalid};
use wharf_spec::plan::{Device, DeviceKind, DeviceRule};

/// Nodes that are made in every `/dev`: path, major and minor number.
const DEFAULT_NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

/// /dev/net/tun: runc allows it to every container (source: runc `AllowedDevices`). Its other defaults are
/// put behind any rules by [`crate::create()`].
const TUN: DeviceRule = DeviceRule {
    allow: true,
    kind: Some(DeviceKind::Char),
    major: Some(10),
    minor: Some(200),
    read: true,
    write: true,
    mknod: true,
};

/// Everything denied: where runc starts from.
const DENY_ALL: DeviceRule =
    DeviceRule { allow: false, kind: None, major: None, minor: None, read: true, write: true, mknod: true };

/// The device nodes, without those that are made anyway exactly so.
pub(super) fn nodes(linux: &config::Linux) -> OciResult<Vec<Device>> {
    let all = linux.devices.iter().map(node).collect::<OciResult<Vec<_>>>()?;
    Ok(all.into_iter().filter(|device| !is_default(device)).collect())
}

fn node(device: &config::Device) -> OciResult<Device> {
    let kind = match device.kind.as_str() {
        "c" | "u" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Fifo,
        other => return invalid(format!("invalid device type {other:?}")),
    };
    Ok(Device {
        path: device.path.clone(),
        kind,
        major: number(device.major, &device.path)?,
        minor: number(device.minor, &device.path)?,
        mode: device.file_mode.unwrap_or(0o666) & !0o170_000,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

fn number(value: i64, path: &str) -> OciResult<u32> {
    match u32::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => invalid(format!("device {path}: invalid device number {value}")),
    }
}

/// Whether the runtime makes this node anyway, with this owner and mode.
fn is_default(device: &Device) -> bool {
    let numbers = (device.path.as_str(), device.major, device.minor);
    let plain = (device.kind, device.mode, device.uid, device.gid) == (DeviceKind::Char, 0o666, 0, 0);
    plain && DEFAULT_NODES.contains(&numbers)
}

/// The rules of a container: nothing, then its own, then what runc always allows.
pub(super) fn container_rules(linux: &config::Linux) -> OciResult<Vec<DeviceRule>> {
    let own = linux.resources.as_ref().map_or(&[][..], |resources| &resources.devices);
    let mut rules = rules(own)?;
    if rules.first() != Some(&DENY_ALL) {
        rules.insert(0, DENY_ALL);
    }
    if rules.last() != Some(&TUN) {
        rules.push(TUN);
    }
    Ok(rules)
}

/// Rules as they stand in a document.
pub(super) fn rules(rules: &[config::DeviceRule]) -> OciResult<Vec<DeviceRule>> {
    rules.iter().enumerate().map(|(index, rule)| device_rule(index, rule)).collect()
}

fn device_rule(index: usize, rule: &config::DeviceRule) -> OciResult<DeviceRule> {
    if rule.access.is_empty() {
        return invalid(format!("device access at {index} field cannot be empty"));
    }
    let kind = match rule.kind.as_str() {
        "" | "a" => None,
        "b" => Some(DeviceKind::Block),
        "c" => Some(DeviceKind::Char),
        other => return invalid(format!("invalid cgroup device type {other:?}")),
    };
    if let Some(letter) = rule.access.chars().find(|letter| !"rwm".contains(*letter)) {
        return invalid(format!("invalid device access {letter:?}"));
    }
    // Negative numbers are wildcards.
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    Ok(DeviceRule {
        allow: rule.allow,
        kind,
        major: number(rule.major),
        minor: number(rule.minor),
        read: rule.access.contains('r'),
        write: rule.access.contains('w'),
        mknod: rule.access.contains('m'),
    })
}

/// A node of a plan in a document.
pub(super) fn document_node(device: &Device) -> config::Device {
    let kind = match device.kind {
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
        DeviceKind::Fifo => "p",
    };
    config::Device {
        path: device.path.clone(),
        kind: kind.to_owned(),
        major: device.major.into(),
        minor: device.minor.into(),
        file_mode: Some(device.mode),
        uid: Some(device.uid),
        gid: Some(device.gid),
    }
}

/// A rule of a plan in a document.
pub(super) fn document_rule(rule: &DeviceRule) -> config::DeviceRule {
    let kind = match rule.kind {
        None => "a",
        Some(DeviceKind::Char) => "c",
        Some(DeviceKind::Block) => "b",
        Some(DeviceKind::Fifo) => "p",
    };
    let letters = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')];
    config::DeviceRule {
        allow: rule.allow,
        kind: kind.to_owned(),
        major: rule.major.map(i64::from),
        minor: rule.minor.map(i64::from),
        access: letters.into_iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(json: &str) -> config::Linux {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn nothing_is_allowed_but_what_is_named() {
        assert_eq!(container_rules(&linux("{}")).unwrap(), [DENY_ALL, TUN]);
        let docker = r#"{"resources":{"devices":[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":10,"minor":-1,"access":"rw"}]}}"#;
        let rules = container_rules(&linux(docker)).unwrap();
        assert_eq!(rules.len(), 3, "deny all stands there once");
        assert_eq!((rules[1].major, rules[1].minor, rules[1].mknod), (Some(10), None, false));
    }

    #[test]
    fn only_nodes_that_differ_from_the_default_ones_are_made() {
        let own =
            linux(r#"{"devices":[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":8576}]}"#);
        assert_eq!(nodes(&own).unwrap()[0].mode, 0o600, "without the bits of the file type");
        let same =
            linux(r#"{"devices":[{"path":"/dev/null","type":"c","major":1,"minor":3,"fileMode":438}]}"#);
        assert!(nodes(&same).unwrap().is_empty(), "made anyway");
    }

    #[test]
    fn what_runc_refuses_is_refused() {
        for (json, text) in [
            (r#"{"resources":{"devices":[{"allow":true}]}}"#, "device access at 0 field cannot be empty"),
            (r#"{"resources":{"devices":[{"type":"x","access":"r"}]}}"#, "invalid cgroup device type \"x\""),
            (r#"{"resources":{"devices":[{"access":"rx"}]}}"#, "invalid device access 'x'"),
        ] {
            assert_eq!(container_rules(&linux(json)).unwrap_err().to_string(), text);
        }
        let bad = linux(r#"{"devices":[{"path":"/dev/x","type":"q"}]}"#);
        assert_eq!(nodes(&bad).unwrap_err().to_string(), "invalid device type \"q\"");
    }
}
