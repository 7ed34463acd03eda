//! Where a container's output is logged.

use super::LogOwner;
use crate::{
    Error, Result,
    containers::{Container, record::Record},
    logging::{self, Options, Origin, Target, parse_bool},
};
use std::{collections::BTreeMap, path::Path};
use wharf_api::container as api;
use wharf_spec::{
    ContainerId,
    plan::{Log, LogFile},
};

/// `max-buffer-size` of those who do not say (source: moby `daemon/logger/ring.go`, defaultRingMaxSize).
const DEFAULT_BUFFER: u64 = 1_000_000;

/// Without options a container's log takes so many bytes in so many files: disks do not fill. Docker has no limit
/// there; `max-size=-1` asks for none.
const DEFAULT_SIZE: u64 = 100_000_000;
const DEFAULT_FILES: u32 = 5;
/// Those of `local` and of the cache are Docker's.
const LOCAL_SIZE: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;

/// The file of a driver: its own, or the cache of what is sent elsewhere (source: moby
/// `daemon/logger/jsonfilelog`, `local`, `loggerutils/cache`).
pub(crate) fn log_path(driver: &str, dir: &Path, id: &ContainerId) -> Option<std::path::PathBuf> {
    match driver {
        "json-file" => Some(dir.join(format!("{id}-json.log"))),
        "local" => Some(dir.join("local-logs").join("container.log")),
        remote if logging::DRIVERS.contains(&remote) => Some(dir.join(logging::CACHE)),
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
    let failed = |why: String| Error::Refused(format!("failed to initialize logging driver: {why}"));
    let limits = match log.driver.as_str() {
        "json-file" => json_limits(options),
        "local" => local_limits(options, ""),
        driver => Target::parse(driver, options).and_then(|_| local_limits(options, "cache-")),
    };
    let Limits { max_size, max_files, compress } = limits.map_err(failed)?;
    check_cache(options).map_err(failed)?;
    let path = path.to_string_lossy().into_owned();
    let file = LogFile { path, max_size, max_files, compress, attrs: owner.attributes(options)? };
    let log = if log.driver == "json-file" { Log::JsonFile(file) } else { Log::Local(file) };
    if options.get("mode").is_none_or(|mode| mode != "non-blocking") {
        return Ok(log);
    }
    let bytes = match options.get("max-buffer-size").filter(|text| !text.is_empty()) {
        Some(text) => bytes(text).ok_or_else(|| failed(format!("invalid size: '{text}'")))?,
        None => DEFAULT_BUFFER,
    };
    Ok(Log::Buffered { log: Box::new(log), bytes })
}

/// Whether a driver's cache may be read: `cache-disabled` says no.
pub(crate) fn is_readable(log: &api::LogConfig) -> bool {
    let disabled = log.config.as_ref().and_then(|options| options.get("cache-disabled"));
    !logging::DRIVERS.contains(&log.driver.as_str())
        || !disabled.is_some_and(|text| parse_bool(text).unwrap_or(true))
}

/// Where a container's lines are sent, and what they say of it; `None` for drivers that keep them here.
///
/// # Errors
/// For option values that make no sense.
pub(crate) fn log_target(container: &Container) -> Result<Option<(Target, Origin)>> {
    let host = container.host_config();
    let empty = Options::new();
    let options = host.log_config.config.as_ref().unwrap_or(&empty);
    let Some(target) = Target::parse(&host.log_config.driver, options).map_err(Error::Refused)? else {
        return Ok(None);
    };
    let record = container.with(|state| state.record.clone());
    let mut command = vec![record.path.clone()];
    command.extend(record.args.clone().unwrap_or_default());
    let name = container.name();
    let owner = LogOwner {
        id: container.id.as_str(),
        name: name.as_str(),
        image: &record.image,
        command: &command,
        config: &record.config,
    };
    Ok(Some((target, owner.origin(options, &record.created.to_string())?)))
}

/// How large a log may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    max_size: Option<u64>,
    max_files: u32,
    compress: bool,
}

fn json_limits(options: &Options) -> Result<Limits, String> {
    let given = |key: &str| options.get(key).filter(|value| !value.is_empty());
    let max_size = match given("max-size").map(String::as_str) {
        Some("-1") => None,
        Some(text) => match decimal_bytes(text) {
            Some(0) => return Err("max-size must be a positive number".into()),
            size => Some(size.ok_or_else(|| format!("invalid size: '{text}'"))?),
        },
        None => Some(DEFAULT_SIZE),
    };
    // Who limits the size means Docker's single file, who says nothing means nothing of the kind.
    let unsaid = if given("max-size").is_some() { 1 } else { DEFAULT_FILES };
    let max_files = match given("max-file") {
        None => unsaid,
        Some(text) => match atoi(text)? {
            ..1 => return Err("max-file cannot be less than 1".into()),
            count => u32::try_from(count).unwrap_or(u32::MAX),
        },
    };
    let compress = given("compress").map_or(Ok(false), |text| parse_bool(text))?;
    if compress && (max_files == 1 || given("max-size").is_none() || max_size.is_none()) {
        return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
    }
    Ok(Limits { max_size, max_files, compress })
}

/// Of `local`, and with `cache-` before their names of the cache.
fn local_limits(options: &Options, prefix: &str) -> Result<Limits, String> {
    let given = |key: &str| options.get(&format!("{prefix}{key}")).filter(|value| !value.is_empty());
    let max_size = match given("max-size").map(String::as_str) {
        Some("-1") => None,
        Some(text) => {
            let bad = || format!("invalid value for max-size: {text}: invalid size: '{text}'");
            Some(decimal_bytes(text).ok_or_else(bad)?)
        }
        None => Some(LOCAL_SIZE),
    };
    let max_files = match given("max-file") {
        Some(text) => match atoi(text).map_err(|why| format!("invalid value for max-file: {text}: {why}"))? {
            ..0 => return Err("max-file must not be negative".into()),
            count => u32::try_from(count).unwrap_or(u32::MAX),
        },
        None => LOCAL_FILES,
    };
    let compress = match given("compress") {
        Some(text) => parse_bool(text).map_err(|why| format!("invalid boolean value for compress: {why}"))?,
        None => true,
    };
    if compress && max_files <= 1 {
        return Err("compression cannot be enabled when max file count is 1".into());
    }
    // Without a limit nothing is rotated.
    Ok(Limits { max_size: max_size.filter(|size| *size > 0), max_files: max_files.max(1), compress })
}

fn check_cache(options: &Options) -> Result<(), String> {
    match options.get("cache-disabled").filter(|text| !text.is_empty()) {
        Some(text) if parse_bool(text).is_err() => {
            Err(format!("invalid value for option cache-disabled: {text}"))
        }
        _ => Ok(()),
    }
}

/// Go's `strconv.Atoi`.
fn atoi(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

/// As [`bytes`], with powers of 1000 (source: docker/go-units `FromHumanSize`).
pub(crate) fn decimal_bytes(text: &str) -> Option<u64> {
    scaled(text, 1000.0)
}

/// `10m`, `1.5g`, `100`: binary units (source: docker/go-units `RAMInBytes`).
pub(crate) fn bytes(text: &str) -> Option<u64> {
    scaled(text, 1024.0)
}

fn scaled(text: &str, base: f64) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let power = "kmgtp".find(lower.chars().last()?);
    let number = if power.is_some() { &lower[..lower.len() - 1] } else { lower };
    let value: f64 = number.trim_end().parse().ok()?;
    let power = power.map_or(0, |power| i32::try_from(power).unwrap_or(0) + 1);
    let bytes = value * base.powi(power);
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
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(10_000), 1, false));
        assert_eq!(file.attrs, [("E".into(), "2".into()), ("a".into(), "1".into())]);
        let Log::Local(file) = plan(&log("local", &[])).unwrap() else { panic!() };
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(20 << 20), 5, true));
        assert_eq!(plan(&log("none", &[])).unwrap(), Log::None);
        assert!(plan(&log("json-file", &[("max-size", "x")])).is_err());
        assert!(plan(&log("awslogs", &[])).is_err());
        let Log::JsonFile(file) = plan(&log("json-file", &[])).unwrap() else { panic!() };
        assert_eq!(
            (file.max_size, file.max_files, file.compress),
            (Some(DEFAULT_SIZE), DEFAULT_FILES, false)
        );
        let Log::JsonFile(file) = plan(&log("json-file", &[("max-size", "-1")])).unwrap() else { panic!() };
        assert_eq!((file.max_size, file.max_files), (None, 1));
        let cached = plan(&log("syslog", &[("cache-max-size", "1m"), ("cache-compress", "false")])).unwrap();
        let Log::Local(file) = cached else { panic!() };
        assert_eq!(file.path, "/c/container-cached.log");
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(1_000_000), 5, false));
    }

    #[test]
    fn bad_limits_are_refused_in_dockers_words() {
        for (driver, options, why) in [
            ("json-file", vec![("max-size", "0")], "max-size must be a positive number"),
            ("json-file", vec![("max-size", "x")], "invalid size: 'x'"),
            ("json-file", vec![("max-file", "0")], "max-file cannot be less than 1"),
            ("json-file", vec![("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax"),
            ("json-file", vec![("compress", "x")], "strconv.ParseBool: parsing \"x\": invalid syntax"),
            (
                "json-file",
                vec![("compress", "true")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            ("local", vec![("max-file", "1")], "compression cannot be enabled when max file count is 1"),
            ("syslog", vec![("cache-disabled", "x")], "invalid value for option cache-disabled: x"),
            ("syslog", vec![("syslog-facility", "x")], "invalid syslog facility"),
        ] {
            let error = check_log_options(&log(driver, &options)).unwrap_err().to_string();
            assert_eq!(error, format!("failed to initialize logging driver: {why}"), "{driver} {options:?}");
        }
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
        assert_eq!(decimal_bytes("1.5m"), Some(1_500_000));
        for bad in ["", "x", "-1", "1x", "nan", "inf", "k"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
