//! What runs in a container, and the request to make one.

use super::HostConfig;
use crate::{Error, Set, StringMap, de, gojson, is_zero, network::NetworkingConfig, port::Port};
use serde::{Deserialize, Serialize};

/// What belongs to the container and not to the host it runs on
/// (source: moby `api/types/container/config.go`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Host name.
    pub hostname: String,
    /// Domain name.
    pub domainname: String,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: String,
    /// Whether standard input is attached.
    pub attach_stdin: bool,
    /// Whether standard output is attached.
    pub attach_stdout: bool,
    /// Whether standard error is attached.
    pub attach_stderr: bool,
    /// Ports that the container listens on.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub exposed_ports: Set<Port>,
    /// Whether the standard streams are a terminal.
    pub tty: bool,
    /// Whether standard input stays open with nobody attached.
    pub open_stdin: bool,
    /// Whether standard input closes when the first client leaves.
    pub stdin_once: bool,
    /// Environment, `NAME=value`.
    #[serde(deserialize_with = "de::strslice")]
    pub env: Option<Vec<String>>,
    /// The command, or the arguments of the entry point.
    #[serde(deserialize_with = "de::strslice")]
    pub cmd: Option<Vec<String>>,
    /// How the container's health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only.
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// The image, as the client named it.
    pub image: String,
    /// Paths in the container that get a volume of their own.
    pub volumes: Option<Set<String>>,
    /// Directory that the command starts in.
    pub working_dir: String,
    /// The program, before `cmd`.
    #[serde(deserialize_with = "de::strslice")]
    pub entrypoint: Option<Vec<String>>,
    /// Whether there is no network at all.
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Hardware address for the whole container, of clients below 1.44 (removed in 1.52).
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "de::hardware_address")]
    pub mac_address: String,
    /// ONBUILD triggers of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<StringMap>,
    /// The signal that asks the container to stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds from that signal to SIGKILL; negative waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "de::strslice")]
    pub shell: Option<Vec<String>>,
}

/// A health check (source: moby docker-image-spec `HealthcheckConfig`). Durations are nanoseconds; zero is
/// the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", ..]`, `["CMD-SHELL", ..]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The request to make a container: on the wire one object that is a [`Config`] with two more keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct CreateRequest {
    /// What runs.
    #[serde(flatten)]
    pub config: Config,
    /// How it runs on this host.
    #[serde(rename = "HostConfig", skip_serializing_if = "Option::is_none")]
    pub host_config: Option<HostConfig>,
    /// The networks to join.
    #[serde(rename = "NetworkingConfig", skip_serializing_if = "Option::is_none")]
    pub networking_config: Option<NetworkingConfig>,
}

impl CreateRequest {
    /// Reads a body and returns what follows the JSON value in it.
    ///
    /// # Errors
    /// When the body is no JSON or of other types.
    pub fn from_json(body: &[u8]) -> Result<(Self, &[u8]), Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename = "CreateRequest", rename_all = "PascalCase", default)]
        struct Rest {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        // Both views ignore the keys of the other: the body is read twice, since serde's flatten would lose
        // the case-insensitive matching of keys.
        let (config, _) = gojson::decode::<Config>(body)?;
        let (rest, tail) = gojson::decode::<Rest>(body)?;
        let Rest { host_config, networking_config } = rest;
        Ok((Self { config, host_config, networking_config }, tail))
    }
}

/// The answer to a request to make a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// The container's id.
    pub id: String,
    /// What was changed or ignored.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_all_its_parts() {
        let body =
            br#"{"image":"busybox","cmd":"true","ENTRYPOINT":["sh"],"ExposedPorts":{"80":{}},"Volumes":null,
            "hostConfig":{"binds":["/a:/b"],"Dns":["1.1.1.1"],"OomKillDisable":false},
            "NetworkingConfig":{"EndpointsConfig":{"n":null,"m":{"Aliases":["x"]}}}} "#;
        let (request, rest) = CreateRequest::from_json(body).unwrap();
        assert_eq!(rest, b" ");
        assert_eq!(request.config.cmd.as_deref(), Some(&["true".to_owned()][..]));
        assert!(request.config.exposed_ports.contains_key(&Port::new(80, "tcp")));
        let host = request.host_config.unwrap();
        assert_eq!((host.binds.unwrap().len(), host.oom_kill_disable), (1, Some(false)));
        let endpoints = request.networking_config.unwrap().endpoints_config.unwrap();
        assert_eq!(endpoints["m"].aliases.as_deref(), Some(&["x".to_owned()][..]));
    }

    #[test]
    fn errors_are_those_of_the_daemon() {
        let message = |body: &str| CreateRequest::from_json(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(message(""), "invalid JSON: EOF");
        assert_eq!(
            message("{nope"),
            "invalid JSON: invalid character 'n' looking for beginning of object key string"
        );
        assert_eq!(
            message(r#"{"HostConfig":{"Dns":["notanip"]}}"#),
            "invalid JSON: ParseAddr(\"notanip\"): unable to parse IP"
        );
        assert_eq!(
            message(r#"{"HostConfig":{"Memory":"1"}}"#),
            "invalid JSON: json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64"
        );
    }
}
