//! All specifications of the directories, and the devices in them by name (source: CDI `pkg/cdi/cache.go`).

use super::{
    apply, names, read,
    spec::{Edits, Spec},
    validate,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};
use wharf_spec::plan::Plan;

/// What the directories hold now.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    specs: Vec<File>,
    /// Where each device is: the specification, and the place in it.
    devices: BTreeMap<String, (usize, usize)>,
    /// What is wrong, by file.
    errors: BTreeMap<PathBuf, Vec<String>>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Later directories win.
    priority: usize,
    spec: Spec,
}

impl Registry {
    /// Reads every specification. What is wrong with one does not keep the others from being used.
    pub(crate) fn read(dirs: &[String]) -> Self {
        let mut registry = Self::default();
        let mut conflicts = BTreeSet::new();
        for (priority, dir) in dirs.iter().enumerate() {
            for path in spec_files(Path::new(dir)) {
                match read::file(&path).and_then(|spec| validate::spec(&spec).map(|()| spec)) {
                    Ok(spec) => registry.add(File { path, priority, spec }, &mut conflicts),
                    Err(why) => registry.complain(&path, format!("failed to load CDI Spec {why}")),
                }
            }
        }
        registry.devices.retain(|name, _| !conflicts.contains(name));
        registry
    }

    fn add(&mut self, file: File, conflicts: &mut BTreeSet<String>) {
        let number = self.specs.len();
        for (place, device) in file.spec.devices.iter().enumerate() {
            let name = format!("{}={}", file.spec.kind, device.name);
            let other = self.devices.get(&name).map(|(number, _)| &self.specs[*number]);
            if let Some(other) = other.filter(|other| other.priority == file.priority) {
                let why = format!("conflicting device {name:?} (specs {:?}, {:?})", file.path, other.path);
                for path in [file.path.clone(), other.path.clone()] {
                    self.complain(&path, why.clone());
                }
                conflicts.insert(name);
            } else {
                self.devices.insert(name, (number, place));
            }
        }
        self.specs.push(file);
    }

    fn complain(&mut self, path: &Path, why: String) {
        self.errors.entry(path.to_owned()).or_default().push(why);
    }

    /// The names of all devices, and what is wrong with files.
    pub(crate) fn listing(&self) -> (Vec<String>, Vec<String>) {
        let warnings = self.errors.iter().flat_map(|(path, all)| {
            all.iter()
                .map(move |why| format!("CDI: Error associated with spec file {}: {why}", path.display()))
        });
        (self.devices.keys().cloned().collect(), warnings.collect())
    }

    /// Whether any specification is this vendor's.
    pub(crate) fn has_vendor(&self, vendor: &str) -> bool {
        self.specs.iter().any(|file| names::split_kind(&file.spec.kind).0 == vendor)
    }

    /// Gives the devices to a container.
    ///
    /// # Errors
    /// In the library's words, when there is no such device or it cannot be given.
    pub(crate) fn inject(&self, plan: &mut Plan, devices: &[String]) -> Result<(), String> {
        let unknown: Vec<&str> =
            devices.iter().filter(|name| !self.devices.contains_key(*name)).map(String::as_str).collect();
        if !unknown.is_empty() {
            for why in self.errors.values().flatten() {
                tracing::warn!(why, "CDI specification is not used");
            }
            return Err(format!("unresolvable CDI devices {}", unknown.join(", ")));
        }
        apply::edits(plan, &self.edits_of(devices)).map_err(|why| format!("failed to inject devices: {why}"))
    }

    /// What the devices need: of each specification once what all its devices need, then the device's own.
    fn edits_of(&self, devices: &[String]) -> Edits {
        let mut all = Edits::default();
        let mut seen = BTreeSet::new();
        for (number, place) in devices.iter().filter_map(|name| self.devices.get(name)) {
            let spec = &self.specs[*number].spec;
            if seen.insert(number) {
                append(&mut all, &spec.container_edits);
            }
            append(&mut all, &spec.devices[*place].container_edits);
        }
        all
    }
}

fn append(all: &mut Edits, more: &Edits) {
    all.env.extend_from_slice(&more.env);
    all.device_nodes.extend_from_slice(&more.device_nodes);
    all.net_devices.extend_from_slice(&more.net_devices);
    all.hooks.extend_from_slice(&more.hooks);
    all.mounts.extend_from_slice(&more.mounts);
    all.intel_rdt = more.intel_rdt.clone().or_else(|| all.intel_rdt.take());
    all.additional_gids.extend_from_slice(&more.additional_gids);
}

/// The specifications of a directory, by name. One that does not exist has none.
fn spec_files(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(dir = %dir.display(), %error, "CDI spec directory cannot be accessed, skipping");
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json" || end == "yaml"))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, name: &str, variable: &str) -> String {
        format!(
            r#"{{"cdiVersion":"0.5.0","kind":"{kind}","containerEdits":{{"env":["ALL=1"]}},
               "devices":[{{"name":"{name}","containerEdits":{{"env":["{variable}"]}}}}]}}"#
        )
    }

    #[test]
    fn later_directories_win_and_equals_conflict() {
        let (low, high) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(low.path().join("a.json"), spec("v.com/c", "x", "FROM=low")).unwrap();
        fs::write(low.path().join("b.json"), spec("v.com/c", "y", "Y=1")).unwrap();
        fs::write(low.path().join("ignored.txt"), "{").unwrap();
        fs::write(high.path().join("a.yaml"), spec("v.com/c", "x", "FROM=high")).unwrap();
        let dirs = [low.path(), high.path(), Path::new("/no/such")].map(|d| d.to_str().unwrap().to_owned());
        let registry = Registry::read(&dirs);
        assert_eq!(registry.listing(), (vec!["v.com/c=x".into(), "v.com/c=y".into()], vec![]));
        let edits = registry.edits_of(&["v.com/c=x".into(), "v.com/c=y".into(), "v.com/c=y".into()]);
        assert_eq!(edits.env, ["ALL=1", "FROM=high", "ALL=1", "Y=1", "Y=1"]);
        assert!(registry.has_vendor("v.com") && !registry.has_vendor("nvidia.com"));

        fs::write(high.path().join("b.yaml"), spec("v.com/c", "x", "FROM=too")).unwrap();
        fs::write(high.path().join("c.yaml"), "kind: [").unwrap();
        let (devices, warnings) = Registry::read(&dirs).listing();
        assert_eq!(devices, ["v.com/c=y"]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("conflicting device \"v.com/c=x\"")), "{warnings:?}");
        assert!(
            warnings.iter().any(|w| w.contains("failed to load CDI Spec failed to parse")),
            "{warnings:?}"
        );
    }
}
