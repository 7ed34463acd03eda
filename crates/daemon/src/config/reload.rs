//! SIGHUP: what of the file the running daemon takes over (source: moby `daemon/reload.go`,
//! `daemon/reload_unix.go`).

use super::{Error, Flags, Settings};
use serde_json::{Map, Value};
use wharf_engine::config::Reloadable;

/// What the file says now.
pub(crate) struct Reread {
    /// Flags and file together, checked as at a start.
    pub(crate) settings: Settings,
    /// The engine's settings from now on.
    pub(crate) live: Reloadable,
}

/// Reads the file again.
///
/// # Errors
/// As at a start: nothing is to be changed then.
pub(crate) fn reread(flags: &Flags, running: &Reloadable) -> Result<Reread, Error> {
    let file = super::file_of(flags)?;
    let settings = super::complete(flags, &file)?;
    let live = merge(&file, settings.to_reloadable(), running.clone());
    Ok(Reread { settings, live })
}

/// A key that the file does not have any more leaves its setting as it is; but limits of transfers and features go
/// back to their defaults then, even where a flag gave them, as in Docker.
fn merge(file: &Map<String, Value>, asked: Reloadable, running: Reloadable) -> Reloadable {
    let has = |key: &str| file.get(key).is_some_and(|value| !value.is_null());
    let default = Reloadable::default();
    macro_rules! pick {
        ($key:literal, $field:ident, else $other:ident) => {
            if has($key) { asked.$field } else { $other.$field }
        };
        ($key:literal, $field:ident, unless zero) => {
            if has($key) && asked.$field != 0 { asked.$field } else { default.$field }
        };
    }
    Reloadable {
        debug: pick!("debug", debug, else running),
        labels: pick!("labels", labels, else running),
        features: pick!("features", features, else default),
        live_restore: pick!("live-restore", live_restore, else running),
        shutdown_timeout: pick!("shutdown-timeout", shutdown_timeout, else running),
        default_stop_timeout: pick!("default-stop-timeout", default_stop_timeout, else running),
        runtimes: pick!("runtimes", runtimes, else running),
        default_runtime: pick!("default-runtime", default_runtime, else running),
        default_cgroupns_mode: pick!("default-cgroupns-mode", default_cgroupns_mode, else running),
        default_ipc_mode: pick!("default-ipc-mode", default_ipc_mode, else running),
        default_shm_size: pick!("default-shm-size", default_shm_size, else running),
        insecure_registries: pick!("insecure-registries", insecure_registries, else running),
        registry_mirrors: pick!("registry-mirrors", registry_mirrors, else running),
        max_concurrent_downloads: pick!("max-concurrent-downloads", max_concurrent_downloads, unless zero),
        max_concurrent_uploads: pick!("max-concurrent-uploads", max_concurrent_uploads, unless zero),
        max_download_attempts: pick!("max-download-attempts", max_download_attempts, unless zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_the_file_has_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let flags = [
            format!("--config-file={}", path.display()),
            "--max-concurrent-uploads=9".to_owned(),
            "--feature=f".to_owned(),
            "--add-runtime=flag=/bin/f".to_owned(),
        ];
        let flags = Flags::parse(flags).unwrap();
        let mut running = Reloadable::default();
        let mut reload = |json: &str| {
            fs::write(&path, json).unwrap();
            let reread = reread(&flags, &running).map_err(|e| e.to_string())?;
            running = reread.live;
            Ok::<_, String>(running.clone())
        };
        let first = reload(
            r#"{"debug": true, "labels": ["a=b"], "live-restore": false, "shutdown-timeout": 3,
                "default-stop-timeout": 4, "max-concurrent-downloads": 7, "features": {"f": true}}"#,
        );
        assert!(
            first.unwrap_err().contains("specified both as a flag and in the configuration file: features")
        );
        let first = reload(
            r#"{"debug": true, "labels": ["a=b"], "live-restore": false, "shutdown-timeout": 3,
                "default-stop-timeout": 4, "max-concurrent-downloads": 7, "registry-mirrors": ["http://m.test"],
                "runtimes": {"file": {"path": "/bin/x"}}, "default-runtime": "file", "default-shm-size": "1m",
                "insecure-registries": ["i.test"], "default-ipc-mode": "shareable", "default-cgroupns-mode": "host"}"#,
        );
        let first = first.unwrap();
        assert!(first.debug && !first.live_restore && first.features.is_empty());
        assert_eq!((first.shutdown_timeout, first.default_stop_timeout), (3, 4));
        assert_eq!((first.max_concurrent_downloads, first.max_concurrent_uploads), (7, 5));
        assert_eq!(first.runtimes.keys().collect::<Vec<_>>(), ["file", "flag"]);
        assert_eq!((first.default_runtime.as_str(), first.default_shm_size), ("file", 1 << 20));
        // Without their keys most stay.
        let second = reload("{}").unwrap();
        assert_eq!(second, Reloadable { max_concurrent_downloads: 3, ..first.clone() });
        assert!(reload(r#"{"labels": ["x"]}"#).is_err());
        assert_eq!(reload("").unwrap(), second);
    }
}
