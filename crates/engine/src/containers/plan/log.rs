//! Where a container's output is logged.

use super::LogOwner;
use crate::{
    Error, Result,
    containers::{Container, record::Record},
};
use std::{collections::BTreeMap, path::Path};
use wharf_api::container as api;
use wharf_spec::{
    ContainerId,
    plan::{Log, LogFile},
};

/// `max-buffer-size` of those who do not say (source: moby `daemon/logger/ring.go`, defaultRingMaxSize).
const DEFAULT_BUFFER: u64 = 1_000_000;

/// The file of Docker's two drivers that have one (source: `daemon/logger/jsonfilelog` and `local`).
pub(crate) fn log_path(driver: &str, dir: &Path, id: &ContainerId) -> Option<std::path::PathBuf> {
    match driver {
        "json-file" => Some(dir.join(format!("{id}-json.log"))),
        "local" => Some(dir.join("local-logs").join("container.log")),
        _ => None,
    }
}

/// Whether the values of a file driver's options make sense.
///
/// # Errors
/// As [`plan_log`].
pub(crate) fn check_log_options(log: &api::LogConfig) -> Result<()> {
    let id = ContainerId::from_random([0; 32]);
    let config = api::Config::default();
    let nobody = LogOwner { id: "", name: "", image: "", command: &[], config: &config };
    plan_log(log, Path::new("/"), &id, &nobody).map(drop)
}

/// The log of a container that starts; the directory of a local one is made.
///
/// # Errors
/// As [`plan_log`], and when the directory cannot be made.
pub(crate) fn log_of(container: &Container, record: &Record, command: &[String]) -> Result<Log> {
    let (name, host) = (container.name(), container.host_config());
    let owner = LogOwner {
        id: container.id.as_str(),
        name: name.as_str(),
        image: &record.image,
        command,
        config: &record.config,
    };
    let log = plan_log(&host.log_config, container.dir(), &container.id, &owner)?;
    let files = match &log {
        Log::Buffered { log, .. } => log,
        other => other,
    };
    if let Log::Local(file) = files
        && let Some(dir) = Path::new(&file.path).parent()
    {
        crate::config::make_dir(dir, 0o700)?;
    }
    Ok(log)
}

/// The plan's log of a container.
///
/// # Errors
/// For option values that make no sense and drivers that do not exist here.
fn plan_log(log: &api::LogConfig, dir: &Path, id: &ContainerId, owner: &LogOwner<'_>) -> Result<Log> {
    let empty = BTreeMap::new();
    let options = log.config.as_ref().unwrap_or(&empty);
    let Some(path) = log_path(&log.driver, dir, id) else {
        return match log.driver.as_str() {
            "none" => Ok(Log::None),
            other => Err(Error::Refused(format!(
                "failed to create task for container: failed to initialize logging driver: {other} is not supported"
            ))),
        };
    };
    let is_local = log.driver == "local";
    let number = |key: &str| options.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let max_size = match number("max-size") {
        Some("-1") => None,
        Some(text) => Some(bytes(text).ok_or_else(|| bad_option("max-size", text))?),
        None => is_local.then_some(20 << 20),
    };
    let max_files = match number("max-file") {
        Some(text) => text.parse().ok().filter(|n| *n >= 1).ok_or_else(|| bad_option("max-file", text))?,
        None => {
            if is_local {
                5
            } else {
                1
            }
        }
    };
    let compress = match number("compress") {
        Some(text) => matches!(text, "1" | "t" | "true" | "TRUE" | "True"),
        None => is_local,
    };
    let path = path.to_string_lossy().into_owned();
    let file = LogFile { path, max_size, max_files, compress, attrs: owner.attributes(options)? };
    let log = if is_local { Log::Local(file) } else { Log::JsonFile(file) };
    if options.get("mode").is_none_or(|mode| mode != "non-blocking") {
        return Ok(log);
    }
    let bytes = match number("max-buffer-size") {
        Some(text) => bytes(text).ok_or_else(|| bad_option("max-buffer-size", text))?,
        None => DEFAULT_BUFFER,
    };
    Ok(Log::Buffered { log: Box::new(log), bytes })
}

fn bad_option(key: &str, value: &str) -> Error {
    Error::Refused(format!("failed to initialize logging driver: invalid value for {key}: {value:?}"))
}

/// `10m`, `1.5g`, `100`: binary units (source: docker/go-units `RAMInBytes`).
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match lower.chars().last()? {
        'k' => (&lower[..lower.len() - 1], 10),
        'm' => (&lower[..lower.len() - 1], 20),
        'g' => (&lower[..lower.len() - 1], 30),
        't' => (&lower[..lower.len() - 1], 40),
        'p' => (&lower[..lower.len() - 1], 50),
        _ => (lower, 0),
    };
    let value: f64 = number.trim_end().parse().ok()?;
    let bytes = value
        * f64::from(1u32 << (shift % 31))
        * if shift >= 31 { f64::from(1u32 << (shift - shift % 31)) } else { 1.0 };
    (value.is_finite() && value >= 0.0 && bytes < 9e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(driver: &str, options: &[(&str, &str)]) -> api::LogConfig {
        let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        api::LogConfig { driver: driver.into(), config: Some(options) }
    }

    #[test]
    fn drivers_have_their_files_and_defaults() {
        let id = ContainerId::from_random([1; 32]);
        let config = api::Config {
            labels: Some([("a".into(), "1".into())].into()),
            env: Some(vec!["E=2".into()]),
            ..Default::default()
        };
        let owner = LogOwner { id: "", name: "", image: "", command: &[], config: &config };
        let plan = |log: &api::LogConfig| plan_log(log, Path::new("/c"), &id, &owner);
        let json = plan(&log("json-file", &[("max-size", "10k"), ("labels", "a,b"), ("env", "E")])).unwrap();
        let Log::JsonFile(file) = json else { panic!("{json:?}") };
        assert_eq!(file.path, format!("/c/{id}-json.log"));
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(10240), 1, false));
        assert_eq!(file.attrs, [("E".into(), "2".into()), ("a".into(), "1".into())]);
        let Log::Local(file) = plan(&log("local", &[])).unwrap() else { panic!() };
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(20 << 20), 5, true));
        assert_eq!(plan(&log("none", &[])).unwrap(), Log::None);
        assert!(plan(&log("json-file", &[("max-size", "x")])).is_err());
        assert!(plan(&log("syslog", &[])).is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, value) in [
            ("100", 100),
            ("1k", 1024),
            ("1.5m", 1_572_864),
            ("2GB", 2 << 30),
            ("1TiB", 1 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
        for bad in ["", "x", "-1", "1x", "nan", "inf", "k"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
