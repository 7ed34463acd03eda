//! What runc refuses although it can be written down (source: runc `libcontainer/configs/validate`).

use super::{Linux, OciError, OciResult, config, invalid};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Sysctls of the IPC namespace, besides `fs.mqueue.*`.
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

/// A namespace entry of a document, if there.
pub(super) fn namespace<'a>(linux: &'a Linux, kind: &str) -> Option<&'a config::Namespace> {
    linux.namespaces.iter().find(|namespace| namespace.kind == kind)
}

/// Everything but the root file system.
pub(super) fn config(from: &config::Config, linux: &Linux) -> OciResult<()> {
    version(&from.oci_version)?;
    names(from, linux)?;
    security(linux)?;
    user_namespace(linux)?;
    time_namespace(linux)?;
    sysctls(linux)?;
    unsupported(linux)
}

/// A version that is none says that the document is none either. Without one it is taken as it is.
fn version(version: &str) -> OciResult<()> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    if version.is_empty() || parts.len() == 3 && parts.iter().all(|part| number(part)) {
        return Ok(());
    }
    invalid(format!("invalid ociVersion {version:?}"))
}

fn names(from: &config::Config, linux: &Linux) -> OciResult<()> {
    let private = namespace(linux, "uts").is_some();
    if !from.hostname.is_empty() && !private {
        return invalid("unable to set hostname without a private UTS namespace");
    }
    if !from.domainname.is_empty() && !private {
        return invalid("unable to set domainname without a private UTS namespace");
    }
    Ok(())
}

fn security(linux: &Linux) -> OciResult<()> {
    let restricts = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if restricts && namespace(linux, "mount").is_none() {
        return invalid("unable to restrict sys entries without a private MNT namespace");
    }
    Ok(())
}

fn user_namespace(linux: &Linux) -> OciResult<()> {
    let mapped = linux.uid_mappings.is_some() || linux.gid_mappings.is_some();
    match namespace(linux, "user") {
        Some(namespace) if namespace.path.is_empty() && !mapped => {
            invalid("user namespaces enabled, but no namespace path to join nor mappings to apply specified")
        }
        None if mapped => {
            invalid("user namespace mappings specified, but user namespace isn't enabled in the config")
        }
        _ => Ok(()),
    }
}

fn time_namespace(linux: &Linux) -> OciResult<()> {
    let Some(offsets) = &linux.time_offsets else { return Ok(()) };
    let Some(namespace) = namespace(linux, "time") else {
        return invalid("time namespace offsets specified, but time namespace isn't enabled in the config");
    };
    if !offsets.is_empty() && !namespace.path.is_empty() {
        return invalid("time namespace enabled, but both namespace path and time offsets specified");
    }
    match offsets.keys().find(|clock| !matches!(clock.as_str(), "boottime" | "monotonic")) {
        Some(clock) => invalid(format!("failed to write timens_offsets: unknown clock {clock:?}")),
        None => Ok(()),
    }
}

fn unsupported(linux: &Linux) -> OciResult<()> {
    let fields = [
        ("linux.intelRdt", linux.intel_rdt.is_some()),
        ("linux.netDevices", linux.net_devices.as_ref().is_some_and(|devices| !devices.is_empty())),
    ];
    match fields.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(OciError::Unsupported(field.to_owned())),
        None => Ok(()),
    }
}

/// Only what belongs to a namespace of the container may be written.
fn sysctls(linux: &Linux) -> OciResult<()> {
    for name in linux.sysctl.keys() {
        sysctl(linux, &dotted(name))?;
    }
    Ok(())
}

fn sysctl(linux: &Linux, name: &str) -> OciResult<()> {
    if IPC_SYSCTLS.contains(&name) || name.starts_with("fs.mqueue.") {
        return match namespace(linux, "ipc") {
            Some(_) => Ok(()),
            None => invalid(format!("sysctl {name:?} is not allowed in the hosts ipc namespace")),
        };
    }
    if name.starts_with("net.") {
        return match namespace(linux, "network") {
            Some(network) if !is_own_network(&network.path)? => Ok(()),
            _ => invalid(format!("sysctl {name:?} not allowed in host network namespace")),
        };
    }
    match name {
        "kernel.domainname" if namespace(linux, "uts").is_some() => Ok(()),
        "kernel.hostname" if namespace(linux, "uts").is_some() => {
            invalid(format!("sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"))
        }
        _ => invalid(format!("sysctl {name:?} is not in a separate kernel namespace")),
    }
}

/// Whether a namespace to be joined is the one this process is in; no path is a new one.
fn is_own_network(path: &str) -> OciResult<bool> {
    if path.is_empty() {
        return Ok(false);
    }
    let look = |path: &str| {
        let failed = |source| OciError::Look { what: format!("invalid netns path: stat {path}"), source };
        std::fs::metadata(path).map_err(failed)
    };
    let (own, other) = (look("/proc/self/ns/net")?, look(path)?);
    Ok((own.dev(), own.ino()) == (other.dev(), other.ino()))
}

/// `net/ipv4/conf/eno2.100/x` in the form `net.ipv4.conf.eno2/100.x`; a name whose first separator is a dot
/// is in that form already (source: sysctl.d(5)).
pub(super) fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Checks that a root file system is there and that its path is no symbolic link nor goes through one.
/// Returns the path, absolute and clean.
///
/// # Errors
/// [`OciError::Invalid`] and [`OciError::Look`], both beginning with `invalid rootfs`.
pub fn validate_rootfs(path: &Path) -> OciResult<PathBuf> {
    let real = path.canonicalize().map_err(|source| OciError::Look {
        what: format!("invalid rootfs: stat {}", path.display()),
        source,
    })?;
    let clean: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if real != clean {
        return invalid("invalid rootfs: not an absolute path, or a symlink");
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), String> {
        let parsed = config::Config::parse(json.as_bytes()).unwrap();
        let linux = parsed.linux.clone().unwrap_or_default();
        config(&parsed, &linux).map_err(|error| error.to_string())
    }

    #[test]
    fn what_runc_refuses_is_refused() {
        for (json, text) in [
            (r#"{"ociVersion":"invalid"}"#, "invalid ociVersion \"invalid\""),
            (r#"{"hostname":"x"}"#, "unable to set hostname without a private UTS namespace"),
            (r#"{"domainname":"x"}"#, "unable to set domainname without a private UTS namespace"),
            (
                r#"{"linux":{"maskedPaths":["/proc/kcore"]}}"#,
                "unable to restrict sys entries without a private MNT namespace",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"user"}]}}"#,
                "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
            ),
            (
                r#"{"linux":{"uidMappings":[]}}"#,
                "user namespace mappings specified, but user namespace isn't enabled in the config",
            ),
            (
                r#"{"linux":{"sysctl":{"kernel.shmmax":"1"}}}"#,
                "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace",
            ),
            (
                r#"{"linux":{"sysctl":{"net.core.somaxconn":"1"}}}"#,
                "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"network","path":"/proc/self/ns/net"}],
                    "sysctl":{"net/core/somaxconn":"1"}}}"#,
                "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
            ),
            (
                r#"{"linux":{"sysctl":{"vm.swappiness":"1"}}}"#,
                "sysctl \"vm.swappiness\" is not in a separate kernel namespace",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"uts"}],"sysctl":{"kernel.hostname":"x"}}}"#,
                "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
            ),
            (
                r#"{"linux":{"timeOffsets":{}}}"#,
                "time namespace offsets specified, but time namespace isn't enabled in the config",
            ),
            (r#"{"linux":{"intelRdt":{"closID":"x"}}}"#, "linux.intelRdt is not supported"),
        ] {
            assert_eq!(check(json).unwrap_err(), text);
        }
        let good = r#"{"hostname":"h","linux":{"namespaces":[{"type":"uts"},{"type":"ipc"},{"type":"network"}],
            "sysctl":{"net.core.somaxconn":"1","fs.mqueue.msg_max":"2","kernel.domainname":"d"}}}"#;
        assert_eq!(check(good), Ok(()));
    }

    #[test]
    fn sysctl_names_are_read_in_both_forms() {
        assert_eq!(dotted("net/ipv4/conf/eno2.100/rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(dotted("net.ipv4.conf.eno2/100.rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
    }

    #[test]
    fn a_root_behind_a_link_is_refused() {
        let dir =
            std::env::temp_dir().canonicalize().unwrap().join(format!("wharf-rootfs-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        assert_eq!(validate_rootfs(&dir.join("./real/")).unwrap(), dir.join("real"));
        let link = validate_rootfs(&dir.join("link")).unwrap_err().to_string();
        assert_eq!(link, "invalid rootfs: not an absolute path, or a symlink");
        assert!(
            validate_rootfs(&dir.join("none")).unwrap_err().to_string().starts_with("invalid rootfs: stat")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
