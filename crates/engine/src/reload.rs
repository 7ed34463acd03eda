//! Settings that change while the engine runs (source: moby `daemon/reload.go`).

use crate::{
    Engine, Error, Result,
    config::Reloadable,
    containers::plan,
    events::EventKind,
    system::{self, CgroupVersion},
};
use wharf_api::StringMap;

impl Engine {
    /// Takes over other settings, and tells of it.
    ///
    /// # Errors
    /// When one of them makes no sense; nothing is changed then.
    pub fn reload(&self, settings: Reloadable) -> Result<()> {
        let runtime = &settings.default_runtime;
        if !plan::is_built_in(runtime) && !settings.runtimes.contains_key(runtime) {
            return Err(Error::Invalid(format!("specified default runtime '{runtime}' does not exist")));
        }
        let take_over = self.images.prepare_reload(&settings)?;
        let mut attributes = attributes(&settings, self.containers.kernel().cgroup_version);
        attributes.insert("name".into(), system::hostname());
        self.system.config().live.set(settings);
        take_over();
        self.events.emit(EventKind::Daemon, "reload", self.system.id(), attributes);
        Ok(())
    }
}

/// What the event tells: all of them, in Go's words.
fn attributes(settings: &Reloadable, cgroups: CgroupVersion) -> StringMap {
    let cgroupns = match (&settings.default_cgroupns_mode, cgroups) {
        (Some(mode), _) => mode,
        (None, CgroupVersion::V2) => "private",
        (None, CgroupVersion::V1) => "host",
    };
    let features: Vec<_> = settings.features.iter().map(|(name, on)| format!("{name}:{on}")).collect();
    let runtimes: Vec<_> = settings
        .runtimes
        .iter()
        .map(|(name, runtime)| format!("{name}:{}", runtime.path.display()))
        .collect();
    [
        ("debug", settings.debug.to_string()),
        ("default-cgroupns-mode", cgroupns.to_owned()),
        ("default-ipc-mode", settings.default_ipc_mode.clone()),
        ("default-runtime", settings.default_runtime.clone()),
        ("default-shm-size", settings.default_shm_size.to_string()),
        ("default-stop-timeout", settings.default_stop_timeout.to_string()),
        ("features", format!("map[{}]", features.join(" "))),
        ("insecure-registries", json_list(&settings.insecure_registries)),
        ("labels", json_list(&settings.labels)),
        ("live-restore", settings.live_restore.to_string()),
        ("max-concurrent-downloads", settings.max_concurrent_downloads.to_string()),
        ("max-concurrent-uploads", settings.max_concurrent_uploads.to_string()),
        ("max-download-attempts", settings.max_download_attempts.to_string()),
        ("registry-mirrors", json_list(&settings.registry_mirrors)),
        ("runtimes", runtimes.join(" ")),
        ("shutdown-timeout", settings.shutdown_timeout.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn json_list(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Runtime;

    #[test]
    fn attributes_are_dockers() {
        let runtime = Runtime { path: "/bin/one".into(), args: Vec::new() };
        let settings = Reloadable {
            labels: vec!["a=b".into(), "c=\"".into()],
            features: [("x".to_owned(), true), ("y".to_owned(), false)].into(),
            runtimes: [("one".to_owned(), runtime)].into(),
            ..Reloadable::default()
        };
        let told = attributes(&settings, CgroupVersion::V1);
        for (key, value) in [
            ("debug", "false"),
            ("default-cgroupns-mode", "host"),
            ("features", "map[x:true y:false]"),
            ("insecure-registries", "[]"),
            ("labels", "[\"a=b\",\"c=\\\"\"]"),
            ("live-restore", "true"),
            ("max-concurrent-uploads", "5"),
            ("runtimes", "one:/bin/one"),
            ("default-shm-size", "67108864"),
        ] {
            assert_eq!(told[key], value, "{key}");
        }
        assert_eq!(attributes(&Reloadable::default(), CgroupVersion::V2)["default-cgroupns-mode"], "private");
    }
}
