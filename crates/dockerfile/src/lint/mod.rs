//! What is doubtful in a Dockerfile, by BuildKit's rules (source: buildkit
//! `frontend/dockerfile/dockerfile2llb/{convert,convert_expose,validations}.go`, `instructions/parse.go`).

mod rules;
mod stages;
#[cfg(test)]
mod tests;

use crate::{
    Arguments, Dockerfile, Error, Lexer, Patterns, Result, Statement, Variables,
    lines::{Line, lines},
    suggest::suggestion,
};
pub use rules::Rule;
use rules::*;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};
use wharf_spec::{ImageRef, Platform};

/// What the file does not say.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// `.dockerignore`, where there is one.
    pub ignored: Option<&'a Patterns>,
    /// Values of `ARG`s for this build.
    pub arguments: BTreeMap<String, String>,
    /// Environments of base images, by their names as they are once expanded. Stages of other images are taken to
    /// have any variable.
    pub environments: BTreeMap<String, Vec<String>>,
    /// Their platforms, by the same names.
    pub platforms: BTreeMap<String, Platform>,
    /// What is built for; `None` is this machine.
    pub target: Option<Platform>,
}

/// Something doubtful.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Against which rule.
    pub rule: &'static Rule,
    /// What, in BuildKit's words.
    pub message: String,
    /// Number of the first line, from 1.
    pub start: usize,
    /// Number of the last.
    pub end: usize,
}

/// All that is doubtful, from the top to the bottom of the file.
///
/// # Errors
/// As [`Dockerfile::parse`], and for a `# check=` that makes no sense.
pub fn lint(source: &str, options: &Options<'_>) -> Result<Vec<Finding>> {
    let file = Dockerfile::parse(source)?;
    let read = lines(source)?;
    let statement =
        |line: &Line| Statement::parse(&line.text, read.escape).map_err(|why| Error::at(line.start, why));
    let statements: Vec<Statement> = read.lines.iter().map(statement).collect::<Result<_>>()?;
    let mut linter = Linter {
        config: config(source, &options.arguments)?,
        escape: read.escape,
        source: source.lines().collect(),
        options,
        found: Vec::new(),
    };
    for line in &read.lines {
        if read.warnings.contains(&format!("Empty continuation line found in: {}", line.text)) {
            linter.report(&NO_EMPTY_CONTINUATION, line, "Empty continuation line".into());
        }
    }
    let all: Vec<(&Line, &Statement)> = read.lines.iter().zip(&statements).collect();
    linter.casing(&all);
    linter.names(&file, &all);
    let globals = linter.globals(&all);
    linter.stages(&all, &globals);
    linter.found.sort_by_key(|finding| finding.start);
    Ok(linter.found)
}

/// Whether a finding is an error (`# check=error=true`).
///
/// # Errors
/// For a `# check=` that makes no sense.
pub fn is_error(source: &str, arguments: &BTreeMap<String, String>) -> Result<bool> {
    config(source, arguments).map(|config| config.is_error)
}

fn config(source: &str, arguments: &BTreeMap<String, String>) -> Result<Config> {
    let from_file = directive(source.lines()).unwrap_or_default();
    let wanted = arguments.get("BUILDKIT_DOCKERFILE_CHECK").map_or(from_file.as_str(), String::as_str);
    Config::read(wanted).map_err(Error::Check)
}

/// The names of images that stages are made from, expanded as far as defaults of `ARG`s say.
///
/// # Errors
/// As [`Dockerfile::parse`].
pub fn bases(source: &str, arguments: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let file = Dockerfile::parse(source)?;
    let mut variables = platforms();
    for argument in file.arguments.iter().flat_map(|step| &step.instruction) {
        let value = arguments.get(&argument.name).or(argument.default.as_ref());
        let value = value.map(|value| Lexer::new(file.escape, &variables).word(value)).transpose()?;
        value.into_iter().for_each(|value| variables.set(&argument.name, &value));
    }
    let lexer = Lexer::new(file.escape, &variables);
    let expanded = file.stages.iter().filter_map(|stage| lexer.word(&stage.base).ok());
    Ok(expanded.filter(|base| file.stage(base).is_none() && base != "scratch").collect())
}

struct Linter<'a> {
    config: Config,
    escape: char,
    source: Vec<&'a str>,
    options: &'a Options<'a>,
    found: Vec<Finding>,
}

/// `ARG`s before the first stage.
struct Globals {
    /// With the values of this build.
    variables: Variables,
    /// With defaults only.
    defaults: Variables,
    names: BTreeSet<String>,
}

impl Linter<'_> {
    fn report(&mut self, rule: &'static Rule, line: &Line, message: String) {
        let comment = directive(self.comments(line).into_iter().rev());
        let wants = |config: &Config| config.wants(rule);
        let is_wanted = wants(&self.config) || rule.is_experimental;
        let by_comment =
            comment.and_then(|text| Config::read(text.split(' ').next().unwrap_or_default()).ok());
        let is_wanted = match by_comment {
            Some(config) if rule.is_experimental => wants(&self.config) || wants(&config),
            Some(config) => is_wanted && wants(&config),
            None => wants(&self.config),
        };
        if is_wanted {
            self.found.push(Finding { rule, message, start: line.start, end: line.end });
        }
    }

    /// The comments right above a line, the nearest first.
    fn comments(&self, line: &Line) -> Vec<&str> {
        let above = self.source[..line.start.saturating_sub(1).min(self.source.len())].iter().rev();
        above.map(|text| text.trim_start()).take_while(|text| text.starts_with('#')).collect()
    }

    /// A word, and the names of the variables in it that are set and not set.
    fn word(&self, word: &str, variables: &Variables) -> Result<(String, Vec<String>, Vec<String>)> {
        let names = RefCell::default();
        let text = Lexer::noting(self.escape, variables, &names).word(word)?;
        let (set, unset) = names.into_inner().into_iter().partition(|name| variables.get(name).is_some());
        Ok((text, set, unset))
    }

    /// `validateCommandCasing`, and of `FROM ... AS` the keyword.
    fn casing(&mut self, all: &[(&Line, &Statement)]) {
        let first = all.iter().position(|(_, s)| s.name.eq_ignore_ascii_case("from")).unwrap_or(all.len());
        let names = all[first..].iter().map(|(_, statement)| statement.name.as_str());
        let lower = names.clone().filter(|name| is_lower(name)).count();
        let upper = names.filter(|name| !is_lower(name) && is_upper(name)).count();
        for (line, statement) in &all[first..] {
            let name = &statement.name;
            let (fits, case) =
                if lower > upper { (is_lower(name), "lowercase") } else { (is_upper(name), "uppercase") };
            if !fits {
                let text = format!("Command '{name}' should match the case of the command majority ({case})");
                self.report(&CONSISTENT_INSTRUCTION_CASING, line, text);
            }
        }
    }

    /// Names of stages, and what describes them and arguments.
    fn names(&mut self, file: &Dockerfile, all: &[(&Line, &Statement)]) {
        let mut seen = BTreeSet::new();
        for stage in &file.stages {
            let Some((line, statement)) = all.iter().find(|(line, _)| line.start == stage.line) else {
                continue;
            };
            let Some(name) = &stage.name else { continue };
            if let [_, keyword, written] = statement.arguments.words() {
                if written != name {
                    let text = format!("Stage name '{written}' should be lowercase");
                    self.report(&STAGE_NAME_CASING, line, text);
                }
                let (from, is_from_lower) = (&statement.name, is_lower(&statement.name));
                let fits =
                    if is_from_lower { is_lower(keyword) } else { is_upper(keyword) || !is_upper(from) };
                if !fits {
                    let text = format!("'{keyword}' and '{from}' keywords' casing do not match");
                    self.report(&FROM_AS_CASING, line, text);
                }
            }
            if matches!(name.as_str(), "context" | "scratch") {
                let text = format!(
                    "Stage name should not use the same name as reserved stage {}",
                    crate::quote(name)
                );
                self.report(&RESERVED_STAGE_NAME, line, text);
            }
            if !seen.insert(name) {
                let text =
                    format!("Duplicate stage name {}, stage names should be unique", crate::quote(name));
                self.report(&DUPLICATE_STAGE_NAME, line, text);
            }
            self.description(line, "FROM", std::slice::from_ref(name));
        }
    }

    /// A comment right above says what the thing is, its name first.
    fn description(&mut self, line: &Line, instruction: &str, names: &[String]) {
        let comments = self.comments(line);
        let Some(nearest) = comments.first() else { return };
        let word = nearest.trim_start_matches('#').trim().split(' ').next().unwrap_or_default();
        let example = if let [only] = names { only.as_str() } else { "<arg_key>" };
        if !names.iter().any(|name| name == word) {
            let text =
                format!("Comment for {instruction} should follow the format: `# {example} <description>`");
            self.report(&INVALID_DEFINITION_DESCRIPTION, line, text);
        }
    }

    fn globals(&mut self, all: &[(&Line, &Statement)]) -> Globals {
        let (mut variables, mut defaults) = (platforms(), platforms());
        let mut names: BTreeSet<String> = variables.names().map(str::to_owned).collect();
        for (line, statement) in all {
            if statement.name.eq_ignore_ascii_case("from") {
                break;
            }
            let words = statement.arguments.words();
            self.argument(line, words);
            for word in words {
                let (name, default) = split_argument(word);
                names.insert(name.to_owned());
                let expand = |variables: &Variables| {
                    default.and_then(|value| Some(self.word(value, variables).ok()?.0))
                };
                if let Some(value) = expand(&defaults) {
                    defaults.set(name, &value);
                }
                if let Some(value) = self.options.arguments.get(name).cloned().or_else(|| expand(&variables))
                {
                    variables.set(name, &value);
                }
            }
        }
        Globals { variables, defaults, names }
    }

    /// What there is to say of any `ARG`.
    fn argument(&mut self, line: &Line, words: &[String]) {
        let names: Vec<String> = words.iter().map(|word| split_argument(word).0.to_owned()).collect();
        self.description(line, "ARG", &names);
        for name in &names {
            self.secret(line, "ARG", name);
        }
    }

    fn secret(&mut self, line: &Line, instruction: &str, key: &str) {
        if is_secret(key) {
            let key = crate::quote(key);
            let text = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {key})");
            self.report(&SECRETS_USED_IN_ARG_OR_ENV, line, text);
        }
    }

    /// `FROM`: gives its base, expanded.
    fn from(&mut self, line: &Line, statement: &Statement, globals: &Globals) -> String {
        let base = statement.arguments.words().first().cloned().unwrap_or_default();
        if let Ok((name, ..)) = self.word(&base, &globals.defaults)
            && name.parse::<ImageRef>().is_err()
        {
            let text = format!("Default value for ARG {base} results in empty or invalid base image name");
            self.report(&INVALID_DEFAULT_ARG_IN_FROM, line, text);
        }
        let Ok((name, _, unset)) = self.word(&base, &globals.variables) else { return base };
        self.undeclared(line, &unset, globals);
        let platform = statement.flags.iter().find_map(|flag| flag.strip_prefix("--platform="));
        self.platform(line, &name, platform, globals);
        let Some((platform, (result, set, unset))) =
            platform.and_then(|text| Some((text, self.word(text, &globals.variables).ok()?)))
        else {
            return name;
        };
        self.undeclared(line, &unset, globals);
        let target = globals.variables.get("TARGETPLATFORM");
        if set == ["TARGETPLATFORM"] && unset.is_empty() && target == Some(result.as_str()) {
            let text = format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            );
            self.report(&REDUNDANT_TARGET_PLATFORM, line, text);
        }
        let stage = statement.arguments.words().get(2).map(|name| name.to_lowercase()).unwrap_or_default();
        if let (true, true, Ok(wanted)) = (set.is_empty(), unset.is_empty(), result.parse::<Platform>())
            && !stage.contains(&wanted.os)
            && !stage.contains(&wanted.architecture)
        {
            let text =
                format!("FROM --platform flag should not use constant value {}", crate::quote(&result));
            self.report(&FROM_PLATFORM_FLAG_CONST_DISALLOWED, line, text);
        }
        name
    }

    /// `validateBaseImagePlatform`
    fn platform(&mut self, line: &Line, base: &str, given: Option<&str>, globals: &Globals) {
        let given = given.and_then(|text| self.word(text, &globals.variables).ok()?.0.parse().ok());
        let wanted: Platform = given.or_else(|| self.options.target.clone()).unwrap_or_else(Platform::host);
        let Some(found) = self.options.platforms.get(base) else { return };
        if found.os != wanted.os || found.architecture != wanted.architecture {
            let quoted = |platform: &Platform| crate::quote(&platform.to_string());
            let text = format!(
                "Base image {base} was pulled with platform {}, expected {} for current build",
                quoted(found),
                quoted(&wanted)
            );
            self.report(&INVALID_BASE_IMAGE_PLATFORM, line, text);
        }
    }

    fn undeclared(&mut self, line: &Line, unset: &[String], globals: &Globals) {
        let known: Vec<&str> = globals.names.iter().map(String::as_str).collect();
        for name in unset.iter().filter(|name| !globals.names.contains(*name)) {
            let hint =
                suggestion(name, &known).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            self.report(
                &UNDEFINED_ARG_IN_FROM,
                line,
                format!("FROM argument '{name}' is not declared{hint}"),
            );
        }
    }
}

/// The value of the first `# check=...` among comments.
fn directive<'l>(comments: impl Iterator<Item = &'l str>) -> Option<String> {
    let comments = comments.map(str::trim_start).take_while(|line| line.starts_with('#'));
    let mut pairs = comments.filter_map(|line| line.trim_start_matches('#').split_once('='));
    pairs
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("check"))
        .map(|(_, value)| value.trim().to_owned())
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

fn split_argument(word: &str) -> (&str, Option<&str>) {
    word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)))
}

/// The name is, begins with, ends with, or holds between underscores what stands for a secret.
fn is_secret(key: &str) -> bool {
    const DENIED: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const ALLOWED: [&str; 3] = ["public", "file", "version"];
    let key = key.to_lowercase();
    let has = |words: &[&str]| key.split('_').any(|part| words.contains(&part));
    has(&DENIED) && !has(&ALLOWED)
}

/// Platforms of a build for this machine.
fn platforms() -> Variables {
    let host = Platform::host();
    let mut variables = Variables::default();
    for prefix in ["BUILD", "TARGET"] {
        variables.set(&format!("{prefix}PLATFORM"), &host.to_string());
        variables.set(&format!("{prefix}OS"), &host.os);
        variables.set(&format!("{prefix}ARCH"), &host.architecture);
        variables.set(&format!("{prefix}VARIANT"), &host.variant);
    }
    variables
}
