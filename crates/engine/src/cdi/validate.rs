//! Whether a specification makes sense (source: CDI `pkg/cdi/spec.go`, `container-edits.go`,
//! `specs-go/version.go`). Errors are those of CDI's library.

use super::{
    names,
    spec::{Device, DeviceNode, Edits, Hook, IntelRdt, NetDevice, Spec},
};
use std::collections::BTreeSet;

type Check = Result<(), String>;

/// Every version there has been, the oldest first.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// The hooks of the OCI runtime specification.
pub(super) const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Checks a specification and all its devices.
pub(super) fn spec(spec: &Spec) -> Check {
    everything(spec).map_err(|why| format!("invalid CDI Spec: {why}"))
}

fn everything(spec: &Spec) -> Check {
    version(spec)?;
    let (vendor, class) = names::split_kind(&spec.kind);
    names::check_vendor(vendor)?;
    names::check_class(class)?;
    edits(&spec.container_edits)?;
    let mut seen = BTreeSet::new();
    for one in &spec.devices {
        device(one).map_err(|why| format!("failed add device {:?}: {why}", one.name))?;
        if !seen.insert(&one.name) {
            return Err(format!("invalid spec, multiple device {:?}", one.name));
        }
    }
    if seen.is_empty() { Err("invalid spec, no devices".into()) } else { Ok(()) }
}

fn device(device: &Device) -> Check {
    names::check_device(&device.name)?;
    if device.container_edits == Edits::default() {
        return Err("invalid device, empty device edits".into());
    }
    edits(&device.container_edits).map_err(|why| format!("invalid device {:?}: {why}", device.name))
}

/// A specification may use only what its version has.
fn version(spec: &Spec) -> Check {
    let number = spec.cdi_version.strip_prefix('v').unwrap_or(&spec.cdi_version);
    let Some(own) = VERSIONS.iter().position(|known| *known == number) else {
        return Err(format!("invalid version {:?}", spec.cdi_version));
    };
    let least = least_version(spec);
    match VERSIONS.iter().position(|known| *known == least) {
        Some(needed) if own < needed => Err(format!("the spec version must be at least v{least}")),
        _ => Ok(()),
    }
}

fn least_version(spec: &Spec) -> &'static str {
    let all =
        || std::iter::once(&spec.container_edits).chain(spec.devices.iter().map(|d| &d.container_edits));
    let annotated =
        |map: &Option<std::collections::BTreeMap<_, _>>| map.as_ref().is_some_and(|m| !m.is_empty());
    let newest_rdt = |rdt: &IntelRdt| rdt.schemata.is_some() || rdt.enable_monitoring;
    let newest = |e: &Edits| !e.net_devices.is_empty() || e.intel_rdt.as_ref().is_some_and(newest_rdt);
    if all().any(newest) {
        "1.1.0"
    } else if all().any(|e| e.intel_rdt.is_some() || !e.additional_gids.is_empty()) {
        "0.7.0"
    } else if annotated(&spec.annotations)
        || spec.devices.iter().any(|d| annotated(&d.annotations))
        || spec.kind.split_once('/').is_some_and(|(_, class)| class.contains('.'))
    {
        "0.6.0"
    } else if spec.devices.iter().any(|d| d.name.starts_with(|c: char| c.is_ascii_digit()))
        || all().any(|e| e.device_nodes.iter().any(|node| !node.host_path.is_empty()))
    {
        "0.5.0"
    } else if all().any(|e| e.mounts.iter().any(|mount| !mount.kind.is_empty())) {
        "0.4.0"
    } else {
        "0.3.0"
    }
}

fn edits(edits: &Edits) -> Check {
    environment(&edits.env).map_err(|why| format!("invalid container edits: {why}"))?;
    edits.device_nodes.iter().try_for_each(device_node)?;
    edits.hooks.iter().try_for_each(hook)?;
    for mount in &edits.mounts {
        for (path, what) in [(&mount.host_path, "host"), (&mount.container_path, "container")] {
            if path.is_empty() {
                return Err(format!("invalid mount, empty {what} path"));
            }
        }
    }
    edits.intel_rdt.as_ref().map_or(Ok(()), intel_rdt)?;
    net_devices(&edits.net_devices)
}

fn environment(env: &[String]) -> Check {
    match env.iter().find(|variable| variable.find('=').is_none_or(|at| at == 0)) {
        Some(bad) => Err(format!("invalid environment variable {bad:?}")),
        None => Ok(()),
    }
}

fn device_node(node: &DeviceNode) -> Check {
    if node.path.is_empty() {
        return Err("invalid (empty) device path".into());
    }
    if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
        return Err(format!("device {:?}: invalid type {:?}", node.path, node.kind));
    }
    let permissions = node.permissions.as_str();
    // Go trims both ends only: what is between is not looked at.
    if permissions != "none" && !permissions.trim_matches(['r', 'w', 'm']).is_empty() {
        return Err(format!("device {:?}: invalid permissions {permissions:?}", node.path));
    }
    Ok(())
}

fn hook(hook: &Hook) -> Check {
    if !HOOKS.contains(&hook.hook_name.as_str()) {
        return Err(format!("invalid hook name {:?}", hook.hook_name));
    }
    if hook.path.is_empty() {
        return Err(format!("invalid hook {:?} with empty path", hook.hook_name));
    }
    environment(&hook.env).map_err(|why| format!("invalid hook {:?}: {why}", hook.hook_name))
}

fn intel_rdt(rdt: &IntelRdt) -> Check {
    let id = rdt.clos_id.as_str();
    let bad = id.len() >= 4096 || id == "." || id == ".." || id.contains(['/', '\n']);
    if bad && id != "/" { Err("invalid ClosID".into()) } else { Ok(()) }
}

fn net_devices(devices: &[NetDevice]) -> Check {
    let (mut hosts, mut names) = (BTreeSet::new(), BTreeSet::new());
    for device in devices {
        if device.host_interface_name.is_empty() {
            return Err("invalid linux net device, empty HostInterfaceName".into());
        }
        if device.name.is_empty() {
            return Err("invalid linux net device, empty Name".into());
        }
        if !hosts.insert(&device.host_interface_name) {
            let name = &device.host_interface_name;
            return Err(format!("invalid linux net device, duplicate HostInterfaceName {name:?}"));
        }
        if !names.insert(&device.name) {
            return Err(format!("invalid linux net device, duplicate Name {:?}", device.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn checked(change: impl FnOnce(&mut Value)) -> String {
        let mut document = json!({"cdiVersion": "0.3.0", "kind": "vendor.com/device", "devices": [
            {"name": "one", "containerEdits": {"env": ["A=1"]}}]});
        change(&mut document);
        let parsed: Spec = serde_json::from_value(document).unwrap();
        spec(&parsed).map_or_else(|why| why.replacen("invalid CDI Spec: ", "", 1), |()| "fine".into())
    }

    fn edited(edits: Value) -> String {
        checked(|d| {
            d["cdiVersion"] = "1.1.0".into();
            d["containerEdits"] = edits;
        })
    }

    #[test]
    fn errors_are_the_librarys() {
        assert_eq!(checked(|_| {}), "fine");
        assert_eq!(checked(|d| d["cdiVersion"] = "v0.3.0".into()), "fine");
        assert_eq!(checked(|d| d["cdiVersion"] = "2".into()), "invalid version \"2\"");
        assert_eq!(checked(|d| d["kind"] = "device".into()), "invalid vendor. empty name");
        assert_eq!(checked(|d| d["devices"] = json!([])), "invalid spec, no devices");
        let twice = checked(|d| {
            let device = d["devices"][0].clone();
            d["devices"] = json!([device, device]);
        });
        assert_eq!(twice, "invalid spec, multiple device \"one\"");
        let empty = checked(|d| d["devices"][0]["containerEdits"] = json!({}));
        assert_eq!(empty, "failed add device \"one\": invalid device, empty device edits");
        for (edits, error) in [
            (json!({"env": ["=1"]}), "invalid container edits: invalid environment variable \"=1\""),
            (json!({"deviceNodes": [{}]}), "invalid (empty) device path"),
            (
                json!({"deviceNodes": [{"path": "/dev/x", "type": "q"}]}),
                "device \"/dev/x\": invalid type \"q\"",
            ),
            (
                json!({"deviceNodes": [{"path": "/dev/x", "permissions": "rx"}]}),
                "device \"/dev/x\": invalid permissions \"rx\"",
            ),
            (json!({"hooks": [{"hookName": "later", "path": "/x"}]}), "invalid hook name \"later\""),
            (json!({"hooks": [{"hookName": "poststop"}]}), "invalid hook \"poststop\" with empty path"),
            (json!({"mounts": [{"containerPath": "/x"}]}), "invalid mount, empty host path"),
            (json!({"intelRdt": {"closID": ".."}}), "invalid ClosID"),
            (json!({"netDevices": [{"name": "x"}]}), "invalid linux net device, empty HostInterfaceName"),
            (json!({"deviceNodes": [{"path": "/dev/x", "permissions": "none"}]}), "fine"),
        ] {
            assert_eq!(edited(edits), error);
        }
    }

    #[test]
    fn what_is_used_needs_its_version() {
        for (field, value, least) in [
            ("netDevices", json!([{"name": "a", "hostInterfaceName": "b"}]), "1.1.0"),
            ("additionalGids", json!([1]), "0.7.0"),
            ("deviceNodes", json!([{"path": "/a", "hostPath": "/b"}]), "0.5.0"),
            ("mounts", json!([{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]), "0.4.0"),
        ] {
            let error = checked(|d| d["containerEdits"] = json!({field: value}));
            assert_eq!(error, format!("the spec version must be at least v{least}"), "{field}");
        }
        let dotted = checked(|d| d["kind"] = "vendor.com/a.b".into());
        assert_eq!(dotted, "the spec version must be at least v0.6.0");
        assert_eq!(
            checked(|d| d["devices"][0]["name"] = "0".into()),
            "the spec version must be at least v0.5.0"
        );
    }
}
