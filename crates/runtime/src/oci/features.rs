//! The document that tells a caller what this runtime can do (source: OCI runtime-spec, features.md).

use super::{OCI_VERSION, mounts, tuning};
use crate::seccomp;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wharf_spec::capability;

/// The features document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest version of the specification that is understood.
    pub oci_version_min: String,
    /// The newest.
    pub oci_version_max: String,
    /// Hooks that are run.
    pub hooks: Vec<&'static str>,
    /// Mount options that are not handed to the file system.
    pub mount_options: Vec<String>,
    /// The `linux` object.
    pub linux: Value,
    /// Which runtime this is.
    pub annotations: BTreeMap<String, String>,
    /// Annotations that change what the runtime does: callers should not take them from strangers.
    pub potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// What this build can do. `version` is Wharf's.
pub fn features(version: &str) -> Features {
    let enabled = |on: bool| json!({ "enabled": on });
    Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: OCI_VERSION.to_owned(),
        hooks: vec![
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        mount_options: mounts::known_options(),
        linux: json!({
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capability::NAMES.as_slice(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS,
                "operators": seccomp::OPERATORS,
                "archs": seccomp::ARCHITECTURES,
                "knownFlags": seccomp::FLAGS.map(|(name, _)| name),
                "supportedFlags": seccomp::FLAGS.map(|(name, _)| name),
            },
            "apparmor": enabled(true),
            "selinux": enabled(true),
            "intelRdt": enabled(false),
            "mountExtensions": { "idmap": enabled(true) },
            "netDevices": enabled(false),
            "memoryPolicy": {
                "modes": tuning::MEMORY_MODES,
                "flags": tuning::MEMORY_FLAGS.map(|(name, _)| name),
            },
        }),
        annotations: BTreeMap::from([("wharf.runtime.version".to_owned(), version.to_owned())]),
        potentially_unsafe_config_annotations: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_specification() {
        let document = serde_json::to_value(features("1.2.3")).unwrap();
        for key in ["ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux", "annotations"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert_eq!(document["linux"]["seccomp"]["actions"][0], "SCMP_ACT_ALLOW");
        assert_eq!(document["linux"]["capabilities"].as_array().unwrap().len(), 41);
    }
}
