//! What changes do to a config (source: moby `daemon/builder/dockerfile/{builder,dispatchers}.go`,
//! `BuildFromConfig` and `dispatch*`).

use crate::{Change, CommandLine, Error, KeyValue, Lexer, Result, Statement, Variables, lines, ports};
use std::path::{Component, Path};
use wharf_spec::{Empty, RunConfig, signal};

/// Applies instructions, given as lines, to a config. All are read before the first is applied.
///
/// # Errors
/// When one of them is wrong or changes no config; the config is of no use then.
pub fn apply_changes(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let read = lines(&changes.join("\n"))?;
    let statements: Vec<Statement> =
        read.lines.iter().map(|line| Statement::parse(&line.text, read.escape)).collect::<Result<_>>()?;
    let changes: Vec<Change> = statements.iter().map(Change::parse).collect::<Result<_>>()?;
    let mut has_command = false;
    for change in changes {
        change.apply(config, read.escape, &mut has_command)?;
    }
    Ok(())
}

impl Change {
    /// Does to a config what the instruction says, its variables expanded from the config's environment.
    /// `has_command` is whether an earlier instruction set the command, which an entry point then leaves alone.
    ///
    /// # Errors
    /// When a word cannot be expanded or is not what it should be.
    pub fn apply(self, config: &mut RunConfig, escape: char, has_command: &mut bool) -> Result<()> {
        let variables = Variables::of(config.env.as_deref().unwrap_or_default());
        let lexer = Lexer::new(escape, &variables);
        match self {
            Self::Cmd(line) => {
                *has_command |= !line.words().is_empty();
                config.cmd = Some(line.resolve(config));
                config.args_escaped = false;
            }
            Self::Entrypoint(line) => {
                config.entrypoint = (!line.words().is_empty()).then(|| line.resolve(config));
                config.args_escaped = false;
                if !*has_command {
                    config.cmd = None;
                }
            }
            Self::Env(pairs) => set_env(config, expanded(pairs, &lexer)?),
            Self::Expose(given) => {
                for word in given {
                    for spec in lexer.words(&word)? {
                        let ports = ports::parse(&spec)?;
                        config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty)));
                    }
                }
            }
            Self::Healthcheck(check) => config.healthcheck = Some(check),
            Self::Label(pairs) => {
                let pairs = expanded(pairs, &lexer)?.into_iter().map(|pair| (pair.key, pair.value));
                config.labels.get_or_insert_default().extend(pairs);
            }
            Self::Onbuild(trigger) => config.on_build.get_or_insert_default().push(trigger),
            Self::Stopsignal(word) => {
                let word = lexer.word(&word)?;
                signal::parse(&word)?;
                config.stop_signal = word;
            }
            Self::User(word) => config.user = lexer.word(&word)?,
            Self::Volume(paths) => add_volumes(config, &paths, &lexer)?,
            Self::Workdir(path) => config.working_dir = workdir(&config.working_dir, &lexer.word(&path)?)?,
        }
        Ok(())
    }
}

impl CommandLine {
    fn words(&self) -> &[String] {
        match self {
            Self::Exec(words) | Self::Shell(words) => words,
        }
    }

    fn resolve(self, config: &RunConfig) -> Vec<String> {
        match self {
            Self::Exec(words) => words,
            Self::Shell(words) => {
                let own = config.shell.clone().filter(|shell| !shell.is_empty());
                let mut line = own.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
                line.extend(words);
                line
            }
        }
    }
}

fn expanded(pairs: Vec<KeyValue>, lexer: &Lexer<'_>) -> Result<Vec<KeyValue>> {
    let expand =
        |pair: KeyValue| Ok(KeyValue { key: lexer.word(&pair.key)?, value: lexer.word(&pair.value)? });
    pairs.into_iter().map(expand).collect()
}

/// A variable that is there keeps its place.
fn set_env(config: &mut RunConfig, pairs: Vec<KeyValue>) {
    let env = config.env.get_or_insert_default();
    for KeyValue { key, value } in pairs {
        let variable = format!("{key}={value}");
        let is_same = |known: &&mut String| known.split('=').next() == Some(&key);
        match env.iter_mut().find(is_same) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
}

fn add_volumes(config: &mut RunConfig, paths: &[String], lexer: &Lexer<'_>) -> Result<()> {
    let volumes = config.volumes.get_or_insert_default();
    for path in paths {
        match lexer.word(path)? {
            path if path.is_empty() => return Err(Error::EmptyVolume),
            path => drop(volumes.insert(path, Empty)),
        }
    }
    Ok(())
}

/// A relative path is below the present one.
fn workdir(present: &str, wanted: &str) -> Result<String> {
    if wanted.is_empty() {
        return Err(Error::EmptyWorkdir);
    }
    let mut parts: Vec<&str> = Vec::new();
    let base = if wanted.starts_with('/') { "" } else { present };
    for component in Path::new(base).components().chain(Path::new(wanted).components()) {
        match component {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    Ok(format!("/{}", parts.join("/")))
}
