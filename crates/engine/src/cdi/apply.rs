//! What a specification asks for, done to a plan (source: CDI `pkg/cdi/container-edits.go`, Apply).

use super::spec::{DeviceNode, Edits, Hook, Mount};
use crate::{
    containers::{mount_options, validate_path},
    error::words,
};
use rustix::fs::{FileType, lstat, major, minor};
use wharf_spec::plan::{self, Device, DeviceKind, DeviceRule, MountKind, Plan, Source};

type Check = Result<(), String>;

/// Carries the edits out.
///
/// # Errors
/// When a device of the host is not there or not what it is said to be; for what this engine cannot do.
pub(super) fn edits(plan: &mut Plan, edits: &Edits) -> Check {
    if !edits.net_devices.is_empty() {
        return Err("netDevices are not supported by this engine".into());
    }
    if edits.intel_rdt.is_some() {
        return Err("intelRdt is not supported by this engine".into());
    }
    for variable in &edits.env {
        set_variable(&mut plan.process.env, variable);
    }
    for node in &edits.device_nodes {
        add_device(plan, node)?;
    }
    add_mounts(plan, &edits.mounts)?;
    for hook in &edits.hooks {
        add_hook(plan, hook)?;
    }
    for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
        if !plan.process.additional_gids.contains(gid) {
            plan.process.additional_gids.push(*gid);
        }
    }
    Ok(())
}

fn set_variable(env: &mut Vec<String>, variable: &str) {
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    match env.iter_mut().rfind(|old| name(old) == name(variable)) {
        Some(old) => *old = variable.to_owned(),
        None => env.push(variable.to_owned()),
    }
}

fn add_device(plan: &mut Plan, node: &DeviceNode) -> Check {
    let found = complete(node)?;
    // A device belongs to the container's user unless the specification says whose it is.
    let device = Device {
        uid: node.uid.unwrap_or(plan.process.uid),
        gid: node.gid.unwrap_or(plan.process.gid),
        ..found
    };
    let rules = &mut plan.cgroup.resources.devices;
    // No rules at all means that everything is allowed.
    if device.kind != DeviceKind::Fifo && !rules.is_empty() {
        let access = match node.permissions.as_str() {
            "" => "rwm",
            "none" => "",
            some => some,
        };
        rules.push(DeviceRule {
            allow: true,
            kind: Some(device.kind),
            major: Some(device.major),
            minor: Some(device.minor),
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        });
    }
    plan.devices.retain(|old| old.path != device.path);
    plan.devices.push(device);
    Ok(())
}

/// Fills in what the specification leaves to the device of the host.
fn complete(node: &DeviceNode) -> Result<Device, String> {
    let host_path = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    let number = |n: i64| u32::try_from(n).map_err(|_| format!("device {:?}: invalid number {n}", node.path));
    let is_whole = !node.kind.is_empty() && (node.major != 0 || node.kind == "p");
    let mut device = Device {
        path: node.path.clone(),
        kind: kind_of(&node.kind).unwrap_or(DeviceKind::Char),
        major: number(node.major)?,
        minor: number(node.minor)?,
        mode: 0,
        uid: 0,
        gid: 0,
    };
    let found = match on_host(host_path) {
        Ok(found) => Some(found),
        Err(_) if is_whole => None,
        Err(why) => return Err(format!("failed to stat CDI host device {host_path:?}: {why}")),
    };
    if let Some(found) = found {
        device.mode = found.mode;
        if !is_whole {
            if kind_of(&node.kind).is_some_and(|kind| kind != found.kind) {
                return Err(format!(
                    "CDI device ({:?}, {host_path:?}), host type mismatch ({}, {})",
                    node.path,
                    node.kind,
                    letter(found.kind)
                ));
            }
            device.kind = found.kind;
            if found.kind != DeviceKind::Fifo && device.major == 0 {
                (device.major, device.minor) = (found.major, found.minor);
            }
        }
    }
    // runc's mode for a device without one.
    device.mode = node.file_mode.unwrap_or(if found.is_some() { device.mode } else { 0o666 }) & 0o7777;
    Ok(device)
}

fn kind_of(letter: &str) -> Option<DeviceKind> {
    match letter {
        "c" | "u" => Some(DeviceKind::Char),
        "b" => Some(DeviceKind::Block),
        "p" => Some(DeviceKind::Fifo),
        _ => None,
    }
}

const fn letter(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Char => "c",
        DeviceKind::Block => "b",
        DeviceKind::Fifo => "p",
    }
}

#[derive(Clone, Copy)]
struct OnHost {
    kind: DeviceKind,
    major: u32,
    minor: u32,
    mode: u32,
}

fn on_host(path: &str) -> Result<OnHost, String> {
    let found = lstat(path).map_err(|errno| words(&errno.into()))?;
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => DeviceKind::Char,
        FileType::BlockDevice => DeviceKind::Block,
        FileType::Fifo => DeviceKind::Fifo,
        _ => return Err("not a device node".into()),
    };
    let (major, minor) = (major(found.st_rdev), minor(found.st_rdev));
    Ok(OnHost { kind, major, minor, mode: found.st_mode & 0o7777 })
}

/// What a specification mounts hides what the container had in the same place; a mount below another one comes
/// after it.
fn add_mounts(plan: &mut Plan, mounts: &[Mount]) -> Check {
    if mounts.is_empty() {
        return Ok(());
    }
    for mount in mounts {
        let made = planned(mount)?;
        plan.mounts.retain(|old| old.target != made.target);
        plan.mounts.push(made);
    }
    plan.mounts.sort_by_key(|mount| mount.target.matches('/').count());
    Ok(())
}

fn planned(mount: &Mount) -> Result<plan::Mount, String> {
    let options = mount_options(&mount.options)
        .map_err(|word| format!("mount {:?}: invalid option {word:?}", mount.container_path))?;
    let kind = match (mount.kind.as_str(), options.bind) {
        ("" | "bind" | "none", _) | (_, Some(_)) => MountKind::Bind {
            source: Source::Path(mount.host_path.clone()),
            recursive: options.bind.unwrap_or(true),
        },
        ("tmpfs", None) => MountKind::Tmpfs { options: options.data.clone(), copy_up: false },
        (fs_type, None) => MountKind::Other {
            fs_type: fs_type.to_owned(),
            source: mount.host_path.clone(),
            options: options.data.clone(),
        },
    };
    if matches!(kind, MountKind::Bind { .. }) && !options.data.is_empty() {
        return Err(format!(
            "invalid mount {}: bind mounts cannot have any filesystem-specific options applied",
            mount.container_path
        ));
    }
    Ok(plan::Mount {
        target: validate_path(&mount.container_path),
        kind,
        attrs: options.attrs,
        recursive_attrs: options.recursive_attrs,
        propagation: options.propagation,
        idmap: None,
        idmap_single: false,
    })
}

fn add_hook(plan: &mut Plan, hook: &Hook) -> Check {
    let hooks = &mut plan.hooks;
    let list = match hook.hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        other => return Err(format!("unknown hook name {other:?}")),
    };
    list.push(plan::Hook {
        path: hook.path.clone(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: hook.timeout.and_then(|seconds| u32::try_from(seconds).ok()),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(value: serde_json::Value) -> Result<Device, String> {
        complete(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn devices_are_completed_from_the_host() {
        let null = node(json!({"path": "/dev/x", "hostPath": "/dev/null"})).unwrap();
        assert_eq!(
            (null.path.as_str(), null.kind, null.major, null.minor),
            ("/dev/x", DeviceKind::Char, 1, 3)
        );
        assert_eq!(null.mode, 0o666);
        let whole =
            node(json!({"path": "/dev/no", "type": "b", "major": 7, "minor": 1, "fileMode": 0o600})).unwrap();
        assert_eq!((whole.kind, whole.major, whole.mode), (DeviceKind::Block, 7, 0o600));
        assert_eq!(
            node(json!({"path": "/dev/no"})).unwrap_err(),
            "failed to stat CDI host device \"/dev/no\": no such file or directory"
        );
        assert_eq!(
            node(json!({"path": "/dev/null", "type": "b"})).unwrap_err(),
            "CDI device (\"/dev/null\", \"/dev/null\"), host type mismatch (b, c)"
        );
        assert!(node(json!({"path": "/etc/passwd"})).unwrap_err().ends_with("not a device node"));
    }

    #[test]
    fn mounts_are_binds_unless_they_say_otherwise() {
        let mount = |value| planned(&serde_json::from_value(value).unwrap());
        let bind =
            mount(json!({"hostPath": "/a", "containerPath": "/b/../c", "options": ["ro", "nosuid", "bind"]}));
        let bind = bind.unwrap();
        assert_eq!((bind.target.as_str(), bind.attrs.bits()), ("/c", 3));
        assert_eq!(bind.kind, MountKind::Bind { source: Source::Path("/a".into()), recursive: false });
        let tmpfs =
            mount(json!({"hostPath": "t", "containerPath": "/t", "type": "tmpfs", "options": ["size=1m"]}));
        assert!(matches!(tmpfs.unwrap().kind, MountKind::Tmpfs { options, .. } if options.len() == 1));
        let error = mount(json!({"hostPath": "/a", "containerPath": "/b", "options": ["bind", "size=1"]}))
            .unwrap_err();
        assert!(error.contains("bind mounts cannot have"), "{error}");
    }

    #[test]
    fn variables_replace_their_kind() {
        let mut env = vec!["A=1".to_owned(), "B=1".to_owned()];
        set_variable(&mut env, "A=2");
        set_variable(&mut env, "C=3");
        assert_eq!(env, ["A=2", "B=1", "C=3"]);
    }
}
