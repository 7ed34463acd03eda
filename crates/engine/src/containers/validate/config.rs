//! What runs (source: moby `daemon/container.go`, validateContainerConfig).

use crate::{Error, Result, error::invalid};
use std::path::{Component, Path, PathBuf};
use wharf_api::container as api;
use wharf_spec::signal;

/// HOST_NAME_MAX of `linux/limits.h`.
const MAX_HOSTNAME: usize = 64;

/// Checks a container's own settings; its working directory is cleaned.
pub(super) fn check(config: &mut api::Config) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            ));
        }
        config.working_dir = clean_path(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal).map_err(|e| Error::Invalid(e.to_string()))?;
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return invalid(format!("invalid environment variable: {variable}"));
        }
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

/// Checks the host name's length.
pub(super) fn check_hostname(hostname: &str) -> Result<()> {
    if hostname.len() > MAX_HOSTNAME {
        return invalid(format!("hostname {hostname:?} is too long (maximum {MAX_HOSTNAME} bytes)"));
    }
    Ok(())
}

fn check_health(health: &api::HealthConfig) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    let durations = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, value) in &durations[..2] {
        if *value != 0 && *value < MILLISECOND {
            return invalid(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    if health.retries < 0 {
        return invalid("Retries in Healthcheck cannot be negative");
    }
    for (name, value) in &durations[2..] {
        if *value != 0 && *value < MILLISECOND {
            return invalid(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    Ok(())
}

/// Go's `path.Clean` of an absolute path: no `.`, `..`, double or trailing slashes.
pub(crate) fn clean_path(path: &str) -> String {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut api::Config)) -> String {
        let mut config = api::Config::default();
        change(&mut config);
        check(&mut config).map_or_else(|e| e.to_string(), |()| "fine".into())
    }

    #[test]
    fn errors_are_dockers() {
        assert_eq!(error(|c| c.env = Some(vec!["=x".into()])), "invalid environment variable: =x");
        assert_eq!(error(|c| c.env = Some(vec!["A".into(), "B=".into()])), "fine");
        assert_eq!(
            error(|c| c.working_dir = "relative".into()),
            "the working directory 'relative' is invalid, it needs to be an absolute path"
        );
        assert_eq!(error(|c| c.stop_signal = "SIGNOPE".into()), "invalid signal: SIGNOPE");
        let health = api::HealthConfig { interval: 1, ..Default::default() };
        assert_eq!(
            error(|c| c.healthcheck = Some(health)),
            "Interval in Healthcheck cannot be less than 1ms"
        );
        assert!(check_hostname(&"x".repeat(65)).is_err());
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, clean) in [("/a//b/", "/a/b"), ("/a/../../b/.", "/b"), ("/", "/"), ("x", "/x")] {
            assert_eq!(clean_path(path), clean);
        }
    }
}
