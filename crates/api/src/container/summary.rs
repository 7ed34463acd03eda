//! Lists of containers and the answers of the smaller verbs.

use super::MountPoint;
use crate::{StringMap, is_zero, network::EndpointSettings, time::Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wharf_spec::Descriptor;

/// One line of a list of containers (source: moby `api/types/container/container.go`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Summary {
    /// The id.
    pub id: String,
    /// Names with a slash before them, those of links too.
    pub names: Vec<String>,
    /// The image, as the client named it, or its id where that name is another image's by now.
    pub image: String,
    /// The image's id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The platform's manifest (1.48 and up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    /// Program and arguments.
    pub command: String,
    /// When it was made, in seconds since the Unix epoch.
    pub created: i64,
    /// Ports.
    pub ports: Vec<PortSummary>,
    /// Bytes written, when asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    /// Bytes in all, when asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    /// Labels.
    pub labels: StringMap,
    /// State, as in an inspect.
    pub state: String,
    /// State for people: `Up 2 hours (healthy)`.
    pub status: String,
    /// A few of the host's settings.
    pub host_config: SummaryHostConfig,
    /// Health (1.52 and up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Networks.
    pub network_settings: Option<NetworkSettingsSummary>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
}

/// The host's settings that a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SummaryHostConfig {
    /// Network mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// Annotations (1.46 and up).
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub annotations: StringMap,
}

/// Health without its log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthSummary {
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// The networks that a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettingsSummary {
    /// Endpoints by the network's name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortSummary {
    /// Address of the host that it is published on; no key for a port that is not.
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Port of the container.
    pub private_port: u16,
    /// Port of the host.
    #[serde(skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// Protocol.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// Processes in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopResponse {
    /// One row per process.
    pub processes: Vec<Vec<String>>,
    /// What the columns mean.
    pub titles: Vec<String>,
}

/// A path that a container changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FilesystemChange {
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
    /// The path.
    pub path: String,
}

/// The answer to a wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitResponse {
    /// What went wrong while waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitExitError>,
    /// The exit status.
    pub status_code: i64,
}

/// What went wrong while waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitExitError {
    /// The message.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The answer to an update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateResponse {
    /// What was changed or ignored.
    pub warnings: Option<Vec<String>>,
    /// What is to be published from now on, if that was to change. An extension of Wharf's, by which a client knows that
    /// it was understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_bindings: Option<super::PortMap>,
}

/// The answer to a prune.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneReport {
    /// Ids; `None` where there were none.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// A file in a container, as the header `X-Docker-Container-Path-Stat` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    /// Last part of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Type and permissions as Go's `os.FileMode`.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Target of a symbolic link, resolved in the container.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gojson;

    fn text<T: Serialize>(value: &T) -> String {
        String::from_utf8(gojson::to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn answers_have_dockers_emptiness() {
        assert_eq!(text(&UpdateResponse::default()), "{\"Warnings\":null}\n");
        assert_eq!(text(&PruneReport::default()), "{\"ContainersDeleted\":null,\"SpaceReclaimed\":0}\n");
        assert_eq!(text(&WaitResponse { error: None, status_code: 7 }), "{\"StatusCode\":7}\n");
        let summary = text(&Summary { network_settings: Some(Default::default()), ..Default::default() });
        assert_eq!(
            summary,
            "{\"Id\":\"\",\"Names\":[],\"Image\":\"\",\"ImageID\":\"\",\"Command\":\"\",\"Created\":0,\"Ports\":[],\
             \"Labels\":{},\"State\":\"\",\"Status\":\"\",\"HostConfig\":{},\"NetworkSettings\":{\"Networks\":{}},\
             \"Mounts\":[]}\n"
        );
    }
}
