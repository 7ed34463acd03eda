//! What changes do to a config (source: moby `daemon/builder/dockerfile/{builder,dispatchers}.go`,
//! `BuildFromConfig` and `dispatch*`).

use crate::{Change, CommandLine, Error, KeyValue, Lexer, Result, Statement, Variables, go, lines, ports};
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
        let variables = Variables::of(config.env.as_deref().unwrap_or_default());
        change.expand(&Lexer::new(read.escape, &variables))?.apply(config, &mut has_command)?;
    }
    Ok(())
}

impl Change {
    /// The instruction with its variables expanded and quotes removed, in those words that have any.
    ///
    /// # Errors
    /// When a word cannot be expanded.
    pub fn expand(self, lexer: &Lexer<'_>) -> Result<Self> {
        let each = |words: Vec<String>| words.iter().map(|word| lexer.word(word)).collect::<Result<Vec<_>>>();
        Ok(match self {
            Self::Env(pairs) => Self::Env(expanded(pairs, lexer)?),
            Self::Label(pairs) => Self::Label(expanded(pairs, lexer)?),
            Self::Expose(words) => {
                let ports: Vec<Vec<String>> =
                    words.iter().map(|word| lexer.words(word)).collect::<Result<_>>()?;
                Self::Expose(ports.concat())
            }
            Self::Stopsignal(word) => Self::Stopsignal(lexer.word(&word)?),
            Self::User(word) => Self::User(lexer.word(&word)?),
            Self::Volume(paths) => Self::Volume(each(paths)?),
            Self::Workdir(path) => Self::Workdir(lexer.word(&path)?),
            as_written => as_written,
        })
    }

    /// Does to a config what the expanded instruction says. `has_command` is whether an earlier instruction set the
    /// command, which an entry point then leaves alone.
    ///
    /// # Errors
    /// When a word is not what it should be.
    pub fn apply(self, config: &mut RunConfig, has_command: &mut bool) -> Result<()> {
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
            Self::Env(pairs) => set_env(config, pairs),
            Self::Expose(specs) => {
                for spec in specs {
                    let ports = ports::parse(&spec)?;
                    config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty)));
                }
            }
            Self::Healthcheck(check) => config.healthcheck = Some(check),
            Self::Label(pairs) => {
                let pairs = pairs.into_iter().map(|pair| (pair.key, pair.value));
                config.labels.get_or_insert_default().extend(pairs);
            }
            Self::Onbuild(trigger) => config.on_build.get_or_insert_default().push(trigger),
            Self::Shell(words) => config.shell = Some(words),
            Self::Stopsignal(word) => {
                signal::parse(&word)?;
                config.stop_signal = word;
            }
            Self::User(name) => config.user = name,
            Self::Volume(paths) => add_volumes(config, paths)?,
            Self::Workdir(path) => config.working_dir = workdir(&config.working_dir, &path)?,
        }
        Ok(())
    }

    /// What the history says of the expanded instruction, once it was applied to `config` (source: moby
    /// `daemon/builder/dockerfile/dispatchers.go`).
    pub fn comment(&self, config: &RunConfig) -> String {
        let list = |words: &Option<Vec<String>>| go::quoted_list(words.as_deref().unwrap_or_default());
        let pairs = |pairs: &[KeyValue]| {
            pairs.iter().map(|pair| format!(" {}={}", pair.key, pair.value)).collect::<String>()
        };
        match self {
            Self::Cmd(_) => format!("CMD {}", list(&config.cmd)),
            Self::Entrypoint(_) => format!("ENTRYPOINT {}", list(&config.entrypoint)),
            Self::Env(given) => format!("ENV{}", pairs(given)),
            Self::Expose(ports) => format!("EXPOSE {}", ports.join(" ")),
            Self::Healthcheck(check) => format!("HEALTHCHECK {}", go::healthcheck(check)),
            Self::Label(given) => format!("LABEL{}", pairs(given)),
            Self::Onbuild(trigger) => format!("ONBUILD {trigger}"),
            Self::Shell(words) => format!("SHELL [{}]", words.join(" ")),
            Self::Stopsignal(word) => format!("STOPSIGNAL {word}"),
            Self::User(name) => format!("USER {name}"),
            Self::Volume(paths) => format!("VOLUME [{}]", paths.join(" ")),
            Self::Workdir(_) => format!("WORKDIR {}", config.working_dir),
        }
    }
}

impl CommandLine {
    /// What is run, without a shell.
    pub fn words(&self) -> &[String] {
        match self {
            Self::Exec(words) | Self::Shell(words) => words,
        }
    }

    /// What is run, by the config's shell if it is to be.
    pub fn resolve(self, config: &RunConfig) -> Vec<String> {
        match self {
            Self::Exec(words) => words,
            Self::Shell(words) => [shell_of(config), words].concat(),
        }
    }
}

/// The shell that instructions are given to.
pub fn shell_of(config: &RunConfig) -> Vec<String> {
    let own = config.shell.clone().filter(|shell| !shell.is_empty());
    own.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
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

fn add_volumes(config: &mut RunConfig, paths: Vec<String>) -> Result<()> {
    let volumes = config.volumes.get_or_insert_default();
    for path in paths {
        if path.is_empty() {
            return Err(Error::EmptyVolume);
        }
        volumes.insert(path, Empty);
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
