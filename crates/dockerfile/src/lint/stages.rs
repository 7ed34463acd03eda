//! What is doubtful in a stage, with the variables that it knows at each point.

use super::*;
use crate::words::words;
use std::path::{Component, Path};

/// What is known of a stage after some of its steps.
#[derive(Clone, Default)]
struct State {
    variables: Variables,
    /// `ARG`s that are declared, with a value or without.
    declared: BTreeSet<String>,
    /// Its image is not here, and may set any variable.
    is_open: bool,
    has_workdir: bool,
    has_shell: bool,
    /// Where instructions stand of which the last one counts.
    last: BTreeMap<String, Line>,
}

impl Linter<'_> {
    pub(super) fn stages(&mut self, all: &[(&Line, &Statement)], globals: &Globals) {
        let mut states: BTreeMap<String, State> = BTreeMap::new();
        let (mut state, mut name, mut count) = (State::default(), String::new(), 0);
        let first = all.iter().position(|(_, s)| s.name.eq_ignore_ascii_case("from")).unwrap_or(all.len());
        for (line, statement) in &all[first..] {
            if statement.name.eq_ignore_ascii_case("from") {
                states.insert(std::mem::take(&mut name), state);
                let base = self.from(line, statement, globals);
                state = self.begin(&base, &states);
                let given = statement.arguments.words().get(2).map(|name| name.to_lowercase());
                name = given.unwrap_or_else(|| count.to_string());
                count += 1;
            } else {
                self.step(&mut state, line, statement, globals);
            }
        }
    }

    fn begin(&self, base: &str, states: &BTreeMap<String, State>) -> State {
        if let Some(parent) = states.get(&base.to_lowercase()).filter(|_| !base.is_empty()) {
            // Arguments are a stage's own, and so is the count of its instructions.
            return State { last: BTreeMap::new(), declared: BTreeSet::new(), ..parent.clone() };
        }
        let environment = self.options.environments.get(base);
        let is_open = environment.is_none() && base != "scratch";
        let mut variables = environment.map(|env| Variables::of(env)).unwrap_or_default();
        variables.set_default("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        State { variables, is_open, ..State::default() }
    }

    fn step(&mut self, state: &mut State, line: &Line, statement: &Statement, globals: &Globals) {
        let arguments = &statement.arguments;
        let name = statement.name.to_uppercase();
        if !matches!(
            name.as_str(),
            "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" | "ONBUILD" | "HEALTHCHECK" | "MAINTAINER"
        ) {
            self.undefined(state, line, statement);
        }
        match name.as_str() {
            "MAINTAINER" => {
                let text = "Maintainer instruction is deprecated in favor of using label";
                self.report(&MAINTAINER_DEPRECATED, line, text.into());
            }
            "ARG" => {
                self.argument(line, arguments.words());
                self.declare(state, arguments.words(), globals);
            }
            "ENV" | "LABEL" => self.pairs(state, line, statement),
            "CMD" | "ENTRYPOINT" => {
                self.once(state, line, statement);
                if !arguments.is_json() && !state.has_shell {
                    let text = format!(
                        "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                        statement.name
                    );
                    self.report(&JSON_ARGS_RECOMMENDED, line, text);
                }
            }
            "HEALTHCHECK" => self.once(state, line, statement),
            "SHELL" => state.has_shell = true,
            "WORKDIR" => self.workdir(state, line, arguments.words()),
            "EXPOSE" => self.expose(state, line, arguments.words()),
            "COPY" | "ADD" => self.copy(state, line, statement),
            _ => {}
        }
    }

    /// `reportUnmatchedVariables`
    fn undefined(&mut self, state: &State, line: &Line, statement: &Statement) {
        if state.is_open {
            return;
        }
        let mut all: Vec<&str> = statement.arguments.words().iter().map(String::as_str).collect();
        if let Arguments::Pairs(pairs) = &statement.arguments {
            all.extend(pairs.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]));
        }
        all.extend(statement.flags.iter().filter_map(|flag| Some(flag.split_once('=')?.1)));
        let known: Vec<&str> = state.variables.names().collect();
        let mut reported = BTreeSet::new();
        for word in all {
            let Ok((_, _, unset)) = self.word(word, &state.variables) else { continue };
            for name in unset.into_iter().filter(|name| !state.declared.contains(name)) {
                if name.starts_with("BUILDKIT_SBOM_SCAN_") || !reported.insert(name.clone()) {
                    continue;
                }
                let hint = suggestion(&name, &known).map(|near| format!(" (did you mean ${near}?)"));
                let text = format!("Usage of undefined variable '${name}'{}", hint.unwrap_or_default());
                self.report(&UNDEFINED_VAR, line, text);
            }
        }
    }

    fn declare(&self, state: &mut State, words: &[String], globals: &Globals) {
        for word in words {
            let (name, default) = split_argument(word);
            state.declared.insert(name.to_owned());
            let default = default.and_then(|value| Some(self.word(value, &state.variables).ok()?.0));
            let given = self.options.arguments.get(name).cloned();
            let value = given.or(default).or_else(|| globals.variables.get(name).map(str::to_owned));
            if let Some(value) = value {
                // What `ENV` says goes before.
                state.variables.set_default(name, &value);
            }
        }
    }

    fn pairs(&mut self, state: &mut State, line: &Line, statement: &Statement) {
        let Arguments::Pairs(pairs) = &statement.arguments else { return };
        let rest = statement.line.trim_start().get(statement.name.len()..).unwrap_or_default();
        if words(rest, self.escape).first().is_some_and(|first| !first.contains('=')) {
            let name = &statement.name;
            let text =
                format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
            self.report(&LEGACY_KEY_VALUE_FORMAT, line, text);
        }
        if statement.name.eq_ignore_ascii_case("label") {
            return;
        }
        let before = state.variables.clone();
        for (key, value) in pairs {
            self.secret(line, "ENV", key);
            let value = self.word(value, &before).map(|(text, ..)| text).unwrap_or_default();
            state.variables.set(key, &value);
        }
    }

    fn once(&mut self, state: &mut State, line: &Line, statement: &Statement) {
        let name = &statement.name;
        if let Some(before) = state.last.insert(name.to_uppercase(), line.clone()) {
            let text = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            self.report(&MULTIPLE_INSTRUCTIONS_DISALLOWED, &before, text);
        }
    }

    fn workdir(&mut self, state: &mut State, line: &Line, words: &[String]) {
        let Some((path, ..)) = words.first().and_then(|word| self.word(word, &state.variables).ok()) else {
            return;
        };
        if !state.has_workdir && !path.starts_with('/') {
            let path = crate::quote(&path);
            let text =
                format!("Relative workdir {path} can have unexpected results if the base image changes");
            self.report(&WORKDIR_RELATIVE_PATH, line, text);
        }
        state.has_workdir = true;
    }

    fn expose(&mut self, state: &State, line: &Line, given: &[String]) {
        let lexer = Lexer::new(self.escape, &state.variables);
        let ports: Vec<String> = given.iter().filter_map(|word| lexer.words(word).ok()).flatten().collect();
        for port in ports {
            let (host, container) = port.rsplit_once(':').unwrap_or(("", &port));
            let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
            if !is_lower(protocol) {
                let text = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.report(&EXPOSE_PROTO_CASING, line, text);
            }
            if !host.is_empty() {
                let text = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                self.report(&EXPOSE_INVALID_FORMAT, line, text);
            }
        }
    }

    /// `validateCopySourcePath`: patterns with exceptions say too little.
    fn copy(&mut self, state: &State, line: &Line, statement: &Statement) {
        let Some(ignored) = self.options.ignored.filter(|patterns| !patterns.has_exceptions()) else {
            return;
        };
        let [sources @ .., _] = statement.arguments.words() else { return };
        if ignored.is_empty() || statement.flags.iter().any(|flag| flag.starts_with("--from=")) {
            return;
        }
        let name = if statement.name.eq_ignore_ascii_case("add") { "Add" } else { "Copy" };
        for source in sources {
            let Ok((source, ..)) = self.word(source, &state.variables) else { continue };
            if source.contains("://") || source.starts_with("git@") || source.starts_with("<<") {
                continue;
            }
            let path = cleaned(&source);
            // The whole context is none of its files.
            let is_root = path == "." && !["a", "a/b"].iter().all(|any| ignored.excludes(any));
            if !is_root && (path == "." || ignored.excludes(path.trim_start_matches('/'))) {
                let text = format!(
                    "Attempting to {name} file {} that is excluded by .dockerignore",
                    crate::quote(&path)
                );
                self.report(&COPY_IGNORED_FILE, line, text);
            }
        }
    }
}

/// Go's `filepath.Clean`, as far as it matters here; the root of the context is `.`.
fn cleaned(path: &str) -> String {
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    let clean: std::path::PathBuf = parts.collect();
    match clean.to_string_lossy().into_owned() {
        text if text.is_empty() || text == "/" => ".".to_owned(),
        text => text,
    }
}
