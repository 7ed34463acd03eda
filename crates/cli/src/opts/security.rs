//! `--security-opt`, `--storage-opt`, `--sysctl`, `--log-opt` (source: docker/cli
//! `cli/command/container/opts.go`).

use super::keyvalue;
use std::{collections::BTreeMap, fs};

/// Security options in the API's form: files of seccomp profiles are read here, since they are ours.
pub(crate) struct Security {
    pub(crate) options: Option<Vec<String>>,
    /// `systempaths=unconfined`: no path is masked or read-only.
    pub(crate) unconfined_paths: bool,
}

/// Reads all `--security-opt` flags.
///
/// # Errors
/// In Docker's words.
pub(crate) fn options(flags: Option<Vec<String>>) -> Result<Security, String> {
    let Some(flags) = flags else { return Ok(Security { options: None, unconfined_paths: false }) };
    let mut options = Vec::new();
    let mut unconfined_paths = false;
    for flag in flags {
        match split(&flag)? {
            ("systempaths", Some("unconfined")) => unconfined_paths = true,
            ("seccomp", Some(profile)) if !matches!(profile, "builtin" | "unconfined") => {
                options.push(format!("seccomp={}", read_profile(profile)?));
            }
            _ => options.push(flag),
        }
    }
    Ok(Security { options: Some(options), unconfined_paths })
}

fn split(flag: &str) -> Result<(&str, Option<&str>), String> {
    if flag == "no-new-privileges" {
        return Ok((flag, None));
    }
    match flag.split_once('=').or_else(|| flag.split_once(':')) {
        Some((key, value)) if !value.is_empty() || key == "no-new-privileges" => Ok((key, Some(value))),
        _ => Err(format!("invalid --security-opt: {flag:?}")),
    }
}

fn read_profile(path: &str) -> Result<String, String> {
    let raw = fs::read(path).map_err(|e| {
        format!("opening seccomp profile ({path}) failed: open {path}: {}", keyvalue::go_error(&e))
    })?;
    let value: Box<serde_json::value::RawValue> = serde_json::from_slice(&raw)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))?;
    let value: serde_json::Value = serde_json::from_str(value.get()).map_err(|e| e.to_string())?;
    Ok(value.to_string())
}

/// Reads all `--storage-opt` flags.
///
/// # Errors
/// In Docker's words.
pub(crate) fn storage(flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    match flags.iter().all(|flag| flag.contains('=')) {
        true => Ok(keyvalue::map(flags)),
        false => Err("invalid storage option".to_owned()),
    }
}

/// Reads all `--log-opt` flags.
///
/// # Errors
/// In Docker's words.
pub(crate) fn logging(driver: &str, flags: &[String]) -> Result<BTreeMap<String, String>, String> {
    if driver == "none" && !flags.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(keyvalue::map(flags))
}

/// Whether the text is a setting that has a namespace of its own.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_sysctl(text: &str) -> Result<(), String> {
    const KERNEL: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let key = text.split_once('=').map_or("", |(key, _)| key);
    let fits = key.starts_with("net.")
        || key.starts_with("fs.mqueue.")
        || key.strip_prefix("kernel.").is_some_and(|name| KERNEL.contains(&name));
    if fits { Ok(()) } else { Err(format!("sysctl '{text}' is not allowed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options_are_read_as_docker_does() {
        let own = |list: &[&str]| Some(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let security = options(own(&[
            "label:disable",
            "systempaths=unconfined",
            "no-new-privileges",
            "seccomp=unconfined",
        ]));
        let security = security.unwrap_or_else(|e| panic!("{e}"));
        assert!(security.unconfined_paths);
        assert_eq!(security.options, own(&["label:disable", "no-new-privileges", "seccomp=unconfined"]));
        let error = |flag: &str| options(own(&[flag])).err().unwrap();
        assert_eq!(error("foo"), "invalid --security-opt: \"foo\"");
        assert_eq!(
            error("seccomp=/nope"),
            "opening seccomp profile (/nope) failed: open /nope: no such file or directory"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{ \"defaultAction\" : 1 }\n").unwrap();
        let security = options(Some(vec![format!("seccomp={}", file.path().display())]))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(security.options, own(&["seccomp={\"defaultAction\":1}"]));
    }

    #[test]
    fn sysctls_are_checked() {
        assert!(check_sysctl("net.ipv4.ip_forward=1").is_ok() && check_sysctl("kernel.shmmax=1").is_ok());
        assert_eq!(check_sysctl("kernel.panic=1").unwrap_err(), "sysctl 'kernel.panic=1' is not allowed");
        assert!(check_sysctl("net.x").is_err());
        assert!(logging("none", &["a=b".to_owned()]).is_err() && storage(&["x".to_owned()]).is_err());
    }
}
