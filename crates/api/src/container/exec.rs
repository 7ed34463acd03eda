//! Processes started in a running container (source: moby `api/types/container/exec*.go`).

use crate::de;
use serde::{Deserialize, Serialize};

/// The request to prepare a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreateRequest {
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// With every capability.
    pub privileged: bool,
    /// On a terminal.
    pub tty: bool,
    /// First size of the terminal: height, width.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "de::optional_pair")]
    pub console_size: Option<[u64; 2]>,
    /// Whether standard input is attached.
    pub attach_stdin: bool,
    /// Whether standard error is attached.
    pub attach_stderr: bool,
    /// Whether standard output is attached.
    pub attach_stdout: bool,
    /// Keys that detach, such as `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// Further environment.
    #[serde(deserialize_with = "de::strslice")]
    pub env: Option<Vec<String>>,
    /// Directory to start in.
    pub working_dir: String,
    /// Program and arguments.
    #[serde(deserialize_with = "de::strslice")]
    pub cmd: Option<Vec<String>>,
}

/// The request to start a prepared process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecStartRequest {
    /// Do not stay attached.
    pub detach: bool,
    /// Whether the client expects a terminal.
    pub tty: bool,
    /// First size of the terminal: height, width.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "de::optional_pair")]
    pub console_size: Option<[u64; 2]>,
}

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// How it ended; `None` until then.
    pub exit_code: Option<i64>,
    /// What it runs.
    pub process_config: ExecProcessConfig,
    /// Whether standard input is attached.
    pub open_stdin: bool,
    /// Whether standard error is attached.
    pub open_stderr: bool,
    /// Whether standard output is attached.
    pub open_stdout: bool,
    /// Whether it is about to be forgotten.
    pub can_remove: bool,
    /// The container.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// The detach keys as bytes in base64.
    pub detach_keys: String,
    /// Process id on the host, 0 when it does not run.
    pub pid: i64,
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcessConfig {
    /// On a terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Option<Vec<String>>,
    /// With every capability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// As whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
