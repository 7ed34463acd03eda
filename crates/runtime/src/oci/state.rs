//! The state document that `state` prints and hooks read from their standard input.

use super::OCI_VERSION;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container's state (source: OCI runtime-spec, runtime.md, "State").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running`, `stopped`; runc adds `paused`.
    pub status: String,
    /// The main process as the host sees it; left out or 0 when there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// From the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// The state as hooks get it.
    pub fn new(id: &str, status: &str, pid: i32, bundle: &str) -> Self {
        Self {
            oci_version: OCI_VERSION.to_owned(),
            id: id.to_owned(),
            status: status.to_owned(),
            pid,
            bundle: bundle.to_owned(),
            annotations: BTreeMap::new(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form serde calls")]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_specification() {
        let mut state = State::new("c1", "running", 4422, "/bundle");
        state.annotations.insert("k".into(), "v".into());
        assert_eq!(
            serde_json::to_string(&state).unwrap(),
            format!(r#"{{"ociVersion":"{OCI_VERSION}","id":"c1","status":"running","pid":4422,"#)
                + r#""bundle":"/bundle","annotations":{"k":"v"}}"#
        );
        let stopped = serde_json::to_string(&State::new("c1", "stopped", 0, "/b")).unwrap();
        assert!(!stopped.contains("pid") && !stopped.contains("annotations"), "{stopped}");
    }
}
