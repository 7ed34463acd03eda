//! `daemon.json`: reading it, and holding it against the options there are.

use super::options::OPTIONS;
use serde_json::{Map, Value};
use std::{fs, io, path::Path};
use wharf_api::gojson;

/// Keys whose value is an object of its own; the members of other objects count as keys themselves.
const FLAT: [&str; 6] =
    ["default-network-opts", "log-opts", "runtimes", "default-ulimits", "features", "builder"];

/// Keys that are taken though no flag has them.
const UNCHECKED: [&str; 5] = [
    "builder",
    "min-api-version",
    "deprecated-key-path",
    "allow-nondistributable-artifacts",
    "host-gateway-ip",
];

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("open {path}: {}", errno_text(.source))]
    Read {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is no JSON object.
    #[error("invalid JSON: {0}")]
    Json(#[from] gojson::Error),
    /// It has keys that mean nothing.
    #[error("the following directives don't match any configuration option: {0}")]
    Unknown(String),
    /// It has keys that a flag has too.
    #[error("the following directives are specified both as a flag and in the configuration file: {0}")]
    Conflicts(String),
}

impl FileError {
    /// Whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The text of an error number, in lower case as Go has it.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" (os error").next().unwrap_or_default();
    bare[..1].to_lowercase() + &bare[1..]
}

/// Reads the file into its keys. An empty file is an empty object.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>, FileError> {
    let bytes =
        fs::read(path).map_err(|source| FileError::Read { path: path.display().to_string(), source })?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes).trim_ascii();
    if text.is_empty() {
        return Ok(Map::new());
    }
    let whole: Map<String, Value> = gojson::from_slice(text)?;
    Ok(flatten(whole))
}

fn flatten(whole: Map<String, Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    for (key, value) in whole {
        match value {
            Value::Object(members) if !FLAT.contains(&key.as_str()) => flat.extend(members),
            value => {
                flat.insert(key, value);
            }
        }
    }
    flat
}

/// Refuses keys that mean nothing, and keys that flags have too.
pub(super) fn check(file: &Map<String, Value>, flags: &Map<String, Value>) -> Result<(), FileError> {
    let known = |key: &&String| OPTIONS.iter().any(|o| o.key == **key) || UNCHECKED.contains(&key.as_str());
    let unknown: Vec<&str> = file.keys().filter(|k| !known(k)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(FileError::Unknown(unknown.join(", ")));
    }
    let conflicts: Vec<String> = (OPTIONS.iter().filter(|o| o.key != "runtimes"))
        .filter_map(|o| Some((o.key, flags.get(o.key)?, file.get(o.key)?)))
        .map(|(key, flag, file)| {
            format!("{key}: (from flag: {}, from file: {})", shown(key, flag), shown(key, file))
        })
        .collect();
    if conflicts.is_empty() { Ok(()) } else { Err(FileError::Conflicts(conflicts.join(", "))) }
}

/// A value as Go prints it with `%v`, passwords of proxies hidden.
fn shown(key: &str, value: &Value) -> String {
    if key.ends_with("-proxy") {
        return mask_credentials(value.as_str().unwrap_or_default());
    }
    match value {
        Value::String(s) => s.clone(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(|v| shown("", v)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", shown("", v))).collect();
            format!("map[{}]", items.join(" "))
        }
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// Hides user and password of a URL.
pub(crate) fn mask_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx:xxxxx@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden() {
        assert_eq!(mask_credentials("http://me:secret@proxy:3128/x"), "http://xxxxx:xxxxx@proxy:3128/x");
        assert_eq!(mask_credentials("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(mask_credentials("proxy"), "proxy");
    }

    #[test]
    fn objects_that_group_keys_are_opened() {
        let whole = serde_json::json!({"proxies": {"http-proxy": "x"}, "log-opts": {"max-size": "1m"}});
        let flat = flatten(whole.as_object().unwrap().clone());
        assert_eq!(
            Value::Object(flat),
            serde_json::json!({"http-proxy": "x", "log-opts": {"max-size": "1m"}})
        );
    }
}
