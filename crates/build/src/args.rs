//! `ARG`s and their values (source: moby `daemon/builder/dockerfile/buildargs.go`).

use std::collections::{BTreeMap, BTreeSet};
use wharf_dockerfile::Argument;

/// Known without an `ARG`, and not told in the history unless there is one.
const BUILTIN: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Taken by the builder itself.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// `name` → default.
type Defaults = BTreeMap<String, Option<String>>;

/// Arguments of a build, as far as a stage knows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args {
    /// `--build-arg`; without a value it is only known to be asked for.
    given: Defaults,
    /// Declared in the stage.
    declared: Defaults,
    /// Declared before the first stage.
    global: Defaults,
    /// Declared anywhere.
    used: BTreeSet<String>,
}

impl Args {
    pub(crate) fn new(given: BTreeMap<String, Option<String>>) -> Self {
        Self { given, ..Self::default() }
    }

    /// For a stage that begins: nothing is declared in it.
    pub(crate) fn for_stage(&self) -> Self {
        Self { declared: Defaults::new(), ..self.clone() }
    }

    /// Something declares it.
    pub(crate) fn mark_used(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    /// What another stage declared is used.
    pub(crate) fn merge_used(&mut self, stage: &Self) {
        self.used.extend(stage.used.iter().cloned());
    }

    /// Platform arguments and the like: declared before the first stage, with these values unless they are given.
    pub(crate) fn preset(&mut self, name: &str, value: &str) {
        self.global.insert(name.to_owned(), Some(value.to_owned()));
    }

    pub(crate) fn declare(&mut self, argument: &Argument) {
        self.declared.insert(argument.name.clone(), argument.default.clone());
        self.used.insert(argument.name.clone());
    }

    pub(crate) fn declare_global(&mut self, argument: &Argument) {
        self.declare(argument);
        self.global.insert(argument.name.clone(), argument.default.clone());
    }

    /// What a stage may use, with its values.
    pub(crate) fn in_stage(&self) -> BTreeMap<String, String> {
        self.values(&self.declared)
    }

    /// What `FROM` lines may use.
    pub(crate) fn in_from(&self) -> BTreeMap<String, String> {
        self.values(&self.global)
    }

    fn values(&self, known: &Defaults) -> BTreeMap<String, String> {
        let names = known.keys().map(String::as_str).chain(BUILTIN);
        names.filter_map(|name| Some((name.to_owned(), self.value(name, known)?))).collect()
    }

    fn value(&self, name: &str, known: &Defaults) -> Option<String> {
        let given = self.given.get(name).cloned().flatten();
        let default = || known.get(name).cloned().flatten();
        let global = || self.global.get(name).cloned().flatten().filter(|_| known.contains_key(name));
        given.or_else(default).or_else(global)
    }

    /// As an environment, those left out that the image sets itself.
    pub(crate) fn environment(&self, image: &[String]) -> Vec<String> {
        let is_set = |name: &str| image.iter().any(|variable| variable.split('=').next() == Some(name));
        let values = self.in_stage().into_iter().filter(|(name, _)| !is_set(name));
        values.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Whether the history tells of it.
    pub(crate) fn is_told(&self, variable: &str) -> bool {
        let name = variable.split('=').next().unwrap_or_default();
        self.declared.contains_key(name) || !BUILTIN.contains(&name)
    }

    /// `--build-arg`s that no `ARG` takes.
    pub(crate) fn unused(&self) -> Vec<&str> {
        let unused = |name: &&str| !self.used.contains(*name) && !BUILTIN.contains(name) && *name != EPOCH;
        self.given.keys().map(String::as_str).filter(unused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(name: &str, default: Option<&str>) -> Argument {
        Argument { name: name.into(), default: default.map(str::to_owned) }
    }

    #[test]
    fn values_come_from_the_request_the_stage_or_the_file() {
        let given = [("A", Some("given")), ("B", None), ("http_proxy", Some("p")), ("NOBODY", Some("x"))];
        let mut all = Args::new(given.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).into());
        all.declare_global(&argument("A", Some("global")));
        all.declare_global(&argument("G", Some("global")));
        assert_eq!(all.in_from()["A"], "given");
        let mut stage = all.for_stage();
        assert_eq!(stage.in_stage().keys().collect::<Vec<_>>(), ["http_proxy"]);
        stage.declare(&argument("A", Some("default")));
        stage.declare(&argument("B", Some("default")));
        stage.declare(&argument("G", None));
        stage.declare(&argument("N", None));
        let values = stage.in_stage();
        assert_eq!((&*values["A"], &*values["B"], &*values["G"]), ("given", "default", "global"));
        assert!(!values.contains_key("N"));
        assert_eq!(stage.environment(&["A=image".into()]), ["B=default", "G=global", "http_proxy=p"]);
        assert!(!stage.is_told("http_proxy=p") && stage.is_told("B=default"));
        all.merge_used(&stage);
        assert_eq!(all.unused(), ["NOBODY"]);
    }
}
