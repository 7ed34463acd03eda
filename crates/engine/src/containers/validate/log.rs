//! Log drivers and their options (source: moby `daemon/logs.go`, mergeAndVerifyLogConfig, and
//! `daemon/logger/jsonfilelog`, `local`).

use crate::{
    Config, Result,
    containers::plan,
    error::invalid,
    logging::{DRIVERS, Target},
};
use wharf_api::container::LogConfig;

/// Options that every driver takes; those of the cache too, whether it has one or not (moby
/// `daemon/logger/loggerutils/cache/validate.go`).
const COMMON: [&str; 11] = [
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-file",
    "cache-max-size",
    "cache-compress",
    "cache-labels",
    "cache-labels-regex",
    "cache-env",
    "cache-env-regex",
    "cache-tag",
];
const JSON_FILE: [&str; 8] =
    ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
const LOCAL: [&str; 8] =
    ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];

/// Fills in the daemon's driver and options and checks the result.
///
/// # Errors
/// For a driver that does not exist and options that it does not have.
pub(crate) fn merge_log_config(engine: &Config, log: &mut LogConfig) -> Result<()> {
    if log.driver.is_empty() {
        log.driver.clone_from(&engine.log_driver);
    }
    let options = log.config.get_or_insert_default();
    if log.driver == engine.log_driver {
        for (key, value) in &engine.log_options {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    for (key, value) in engine.log_options.iter().filter(|(key, _)| key.starts_with("cache-")) {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let known: Option<&[&str]> = match log.driver.as_str() {
        "none" => return Ok(()),
        "json-file" => Some(&JSON_FILE),
        "local" => Some(&LOCAL),
        // They know their own options.
        remote if DRIVERS.contains(&remote) => None,
        other => {
            return invalid(format!("error looking up logging plugin {other}: plugin \"{other}\" not found"));
        }
    };
    if let Some(mode) = options.get("mode").filter(|m| !matches!(m.as_str(), "blocking" | "non-blocking")) {
        return invalid(format!("logger: logging mode not supported: {mode}"));
    }
    let is_buffered = options.get("mode").is_some_and(|mode| mode == "non-blocking");
    if options.contains_key("max-buffer-size") && !is_buffered {
        return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    }
    for key in options.keys().map(String::as_str) {
        let is_known = known.is_none_or(|known| known.contains(&key));
        if !COMMON.contains(&key) && !is_known {
            return invalid(match log.driver.as_str() {
                "local" => format!("unknown log opt '{key}' for log driver local"),
                driver => format!("unknown log opt '{key}' for {driver} log driver"),
            });
        }
    }
    if let Err(why) = Target::parse(&log.driver, options) {
        return invalid(why);
    }
    // Docker finds bad values at the first start only; a client is better told now.
    match plan::check_log_options(log) {
        Ok(()) => Ok(()),
        Err(error) => invalid(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(engine: &Config, driver: &str, options: &[(&str, &str)]) -> Result<LogConfig, String> {
        let mut log = LogConfig {
            driver: driver.into(),
            config: Some(options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
        };
        merge_log_config(engine, &mut log).map(|()| log).map_err(|e| e.to_string())
    }

    #[test]
    fn errors_are_dockers() {
        let engine = Config::default();
        assert_eq!(
            merge(&engine, "nosuch", &[]).unwrap_err(),
            "error looking up logging plugin nosuch: plugin \"nosuch\" not found"
        );
        assert_eq!(
            merge(&engine, "json-file", &[("nosuch", "1")]).unwrap_err(),
            "unknown log opt 'nosuch' for json-file log driver"
        );
        assert_eq!(
            merge(&engine, "local", &[("nosuch", "1")]).unwrap_err(),
            "unknown log opt 'nosuch' for log driver local"
        );
        assert_eq!(
            merge(&engine, "syslog", &[("nosuch", "1")]).unwrap_err(),
            "unknown log opt 'nosuch' for syslog log driver"
        );
        assert!(merge(&engine, "syslog", &[("cache-max-size", "1m"), ("cache-disabled", "1")]).is_ok());
        assert!(merge(&engine, "none", &[("anything", "1")]).is_ok());
        assert!(merge(&engine, "json-file", &[("max-size", "x")]).is_err());
        assert_eq!(
            merge(&engine, "local", &[("max-buffer-size", "1m")]).unwrap_err(),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        );
        assert!(merge(&engine, "json-file", &[("mode", "non-blocking"), ("max-buffer-size", "1m")]).is_ok());
        assert!(merge(&engine, "local", &[("mode", "non-blocking"), ("max-buffer-size", "x")]).is_err());
    }

    #[test]
    fn the_daemons_options_are_for_its_own_driver() {
        let mut engine = Config::default();
        engine.log_options.insert("max-size".into(), "1m".into());
        engine.log_options.insert("cache-max-file".into(), "2".into());
        let default = merge(&engine, "", &[]).unwrap();
        assert_eq!(
            (default.driver.as_str(), default.config.unwrap()["max-size"].as_str()),
            ("json-file", "1m")
        );
        let other = merge(&engine, "local", &[]).unwrap().config.unwrap();
        assert_eq!(other.keys().collect::<Vec<_>>(), ["cache-max-file"]);
        assert_eq!(merge(&engine, "", &[("max-size", "2m")]).unwrap().config.unwrap()["max-size"], "2m");
    }
}
