//! Events (source: moby `api/types/events/events.go`).

use crate::StringMap;
use serde::{Deserialize, Serialize};

/// Something that happened. The first three fields repeat others for API versions below 1.52.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Message {
    /// The action, of containers and images.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The actor's id, of containers and images.
    #[serde(rename = "id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The image, of containers.
    #[serde(rename = "from", skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `container`, `image`, `network`, `volume`, `daemon`, `builder`, ...
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `exec_create: sh -c true`, `health_status: healthy`, ...
    pub action: String,
    /// What it happened to.
    pub actor: Actor,
    /// `local` or `swarm`.
    #[serde(rename = "scope", skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Seconds since the Unix epoch.
    #[serde(rename = "time", skip_serializing_if = "crate::is_zero")]
    pub time: i64,
    /// Nanoseconds since the Unix epoch.
    #[serde(rename = "timeNano", skip_serializing_if = "crate::is_zero")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name, image, labels, exit code, ...
    pub attributes: StringMap,
}

impl Message {
    /// Fills the fields of API versions below 1.52.
    pub fn with_legacy_fields(mut self) -> Self {
        if self.kind == "container" || self.kind == "image" {
            self.status = Some(self.action.clone());
            self.id = Some(self.actor.id.clone());
        }
        if self.kind == "container" {
            self.from = Some(self.actor.attributes.get("image").cloned().unwrap_or_default());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_fields_come_on_request() {
        let mut event =
            Message { kind: "container".into(), action: "die".into(), time: 1, ..Default::default() };
        event.actor.id = "abc".into();
        event.actor.attributes.insert("image".into(), "busybox".into());
        let plain = serde_json::to_string(&event).unwrap();
        assert!(plain.starts_with(r#"{"Type":"container","Action":"die","Actor":{"ID":"abc""#), "{plain}");
        let legacy = serde_json::to_string(&event.with_legacy_fields()).unwrap();
        assert!(
            legacy.starts_with(r#"{"status":"die","id":"abc","from":"busybox","Type":"container""#),
            "{legacy}"
        );
        let network = Message { kind: "network".into(), ..Default::default() };
        assert_eq!(network.clone().with_legacy_fields(), network);
    }
}
