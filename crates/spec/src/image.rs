//! The image config: what an image says about itself and about the containers made from it.
//!
//! [`ImageConfig`] is a view. The bytes an image was pulled, loaded or built with are what its id is the
//! digest of, so `store` keeps those bytes and never writes a parsed config back over them: fields that
//! this view does not know survive. Only new images (commit, import, build) are written from it, by
//! [`ImageConfig::to_json`], in the form that Docker writes.

use crate::{DiffId, ImageId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::IgnoredAny};
use std::{collections::BTreeMap, io};

/// Why bytes are no image config.
#[derive(Debug, thiserror::Error)]
pub enum ParseImageError {
    /// Not JSON of this form.
    #[error("invalid image JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No `rootfs`, as in images made before 2015.
    #[error("invalid image JSON, no RootFS key")]
    NoRootFs,
}

/// An image's config (source: OCI image-spec, config.md; Docker's own fields: moby
/// `daemon/internal/image/image.go`). Fields stand in the order in which Docker writes them: sorted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// GOARCH, such as `amd64`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// Who made it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The message of a commit or import.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The defaults of containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    /// The container that was committed.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// The config of the container that was committed.
    #[serde(deserialize_with = "nullable")]
    pub container_config: RunConfig,
    /// RFC 3339 with nanoseconds, as written; see [`ImageConfig::created_at`].
    pub created: Option<String>,
    /// The Docker that made it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// One entry per build step, oldest first.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// GOOS, `linux`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// Windows only.
    #[serde(rename = "os.features", deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Windows only.
    #[serde(rename = "os.version", deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Parent as written by old Dockers; today it stands in the image database instead.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "lenient_id")]
    pub parent: Option<ImageId>,
    /// The layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<RootFs>,
    /// Such as `v8`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl ImageConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// When it is no JSON of this form or names no layers' root.
    pub fn parse(raw: &[u8]) -> Result<Self, ParseImageError> {
        let config: Self = serde_json::from_slice(raw)?;
        if config.rootfs.is_none() { Err(ParseImageError::NoRootFs) } else { Ok(config) }
    }

    /// The bytes of a new image, as Docker would write them: sorted keys, Go's escapes.
    pub fn to_json(&self) -> Vec<u8> {
        to_go_json(self)
    }

    /// The layers, bottom first.
    pub fn diff_ids(&self) -> &[DiffId] {
        self.rootfs.as_ref().map_or(&[], |rootfs| &rootfs.diff_ids)
    }

    /// When it was made; `None` when unknown or not a time.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.as_deref()?.parse().ok()
    }

    /// What it runs on.
    pub fn platform(&self) -> crate::Platform {
        crate::Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            ..crate::Platform::default()
        }
    }
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Bottom first.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One build step (source: OCI image-spec, config.md, "history").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339 with nanoseconds, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who made it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// A message.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The step made no layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl History {
    /// When; `None` when unknown or not a time.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.as_deref()?.parse().ok()
    }
}

/// The defaults of containers inside an image, and the `Config` of a container record (source: moby
/// `api/types/container/config.go`, whose order of fields this is). `None` is JSON's null, which Docker
/// keeps apart from an empty list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the fields of Docker's API documentation, ContainerConfig")]
pub struct RunConfig {
    #[serde(deserialize_with = "nullable")]
    pub hostname: String,
    #[serde(deserialize_with = "nullable")]
    pub domainname: String,
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    #[serde(deserialize_with = "nullable")]
    pub attach_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    pub attach_stdout: bool,
    #[serde(deserialize_with = "nullable")]
    pub attach_stderr: bool,
    /// Keys such as `80/tcp`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "nullable")]
    pub tty: bool,
    #[serde(deserialize_with = "nullable")]
    pub open_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub network_disabled: bool,
    /// Moved to the endpoint's settings in API 1.44.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// How a container's health is checked. Times in nanoseconds, 0 is Docker's default
/// (source: moby `docker-image-spec` `HealthcheckConfig`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs, reason = "self-evident")]
pub struct Healthcheck {
    /// Empty inherits, `["NONE"]` disables, else `["CMD", ...]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub test: Option<Vec<String>>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn is_empty_list(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// The `{}` that stands for nothing as a map's value in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Empty;

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        s.serialize_map(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(d).map(|_| Self)
    }
}

/// Go reads null into any type as its zero value.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// A list of words, or one word as old images have it (source: moby `strslice.StrSlice`).
fn words<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::<Words>::deserialize(d)? {
        None => None,
        Some(Words::Many(list)) => Some(list),
        Some(Words::One(word)) => Some(vec![word]),
    })
}

/// `parent` may hold the 64 hex of a version 1 id, which is no image id of today.
fn lenient_id<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ImageId>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.and_then(|text| text.parse().ok()))
}

/// JSON with the escapes of Go's `json.Marshal`: `<`, `>`, `&`, U+2028 and U+2029 are written as `\u....`,
/// so that what Wharf writes is what Docker would have written.
///
/// # Panics
/// Never for types whose `Serialize` cannot fail, that is all of this crate's.
pub fn to_go_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter))
        .expect("plain data is always JSON");
    out
}

/// See [`to_go_json`].
struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As dockerd 29 wrote it for `docker import --change ...`.
    const IMPORTED: &str = concat!(
        r#"{"architecture":"amd64","comment":"Imported from -","config":{"Hostname":"","Domainname":"","User":"","#,
        r#""AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"#,
        r#""StdinOnce":false,"Env":["PATH=/bin"],"Cmd":["sh"],"Image":"","Volumes":null,"WorkingDir":"","#,
        r#""Entrypoint":null,"Labels":null},"container_config":{"Hostname":"","Domainname":"","User":"","#,
        r#""AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"#,
        r#""StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"#,
        r#""Labels":null},"created":"2026-11-20T17:22:56.703653066Z","history":[{"created":"#,
        r#""2026-11-20T17:22:56.703653066Z","created_by":"/bin/sh -c a \u0026\u0026 b \u003e c","comment":"Imported from -"}],"os":"linux","#,
        r#""rootfs":{"type":"layers","diff_ids":["sha256:ce06480e9de86e9ffa36c21e3013045f19064528aaf01107c83c795cd9d02f5d"]}}"#
    );

    #[test]
    fn what_docker_wrote_is_written_back_byte_for_byte() {
        let config = ImageConfig::parse(IMPORTED.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(config.to_json()).unwrap(), IMPORTED);
        assert_eq!(config.diff_ids().len(), 1);
        assert_eq!(config.created_at().unwrap().as_second(), 1_795_195_376);
        assert_eq!(config.history[0].created_by, "/bin/sh -c a && b > c");
    }

    #[test]
    fn nulls_and_single_words_are_read_as_go_does() {
        let config = ImageConfig::parse(
            br#"{"rootfs":{"type":"layers","diff_ids":null},"config":{"Cmd":"sh","ExposedPorts":{"80/tcp":null},
            "User":null,"Entrypoint":[],"Healthcheck":{"Test":["NONE"]},"Unknown":1},"history":null,"parent":"abc"}"#,
        )
        .unwrap();
        let run = config.config.unwrap();
        assert_eq!(run.cmd.unwrap(), ["sh"]);
        assert_eq!(run.entrypoint, Some(vec![]));
        assert!(run.exposed_ports.contains_key("80/tcp"));
        assert_eq!(config.parent, None);
    }

    #[test]
    fn an_image_without_rootfs_is_refused() {
        assert!(matches!(ImageConfig::parse(b"{}"), Err(ParseImageError::NoRootFs)));
        assert!(ImageConfig::parse(b"[]").is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["sha256:12"]}}"#).is_err());
    }
}
