//! Instructions that change an image's config and nothing else: what `commit --change` takes (source: buildkit
//! `frontend/dockerfile/instructions/parse.go`; moby `daemon/builder/dockerfile/builder.go`).

use crate::{Arguments, Error, Result, Statement, flags};
use wharf_spec::{Healthcheck, duration};

/// The shortest interval of a health check, in nanoseconds.
const SHORTEST: i64 = 1_000_000;

/// An instruction. Words are as written: quotes and variables are resolved when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the instructions are")]
pub enum Change {
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Env(Vec<KeyValue>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<KeyValue>),
    /// The instruction that is put off, as written.
    Onbuild(String),
    Shell(Vec<String>),
    Stopsignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Run as it is.
    Exec(Vec<String>),
    /// Run by the image's shell.
    Shell(Vec<String>),
}

/// `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct KeyValue {
    pub key: String,
    pub value: String,
}

impl Change {
    /// What a statement says.
    ///
    /// # Errors
    /// When it is no such instruction or its flags or arguments are wrong.
    pub fn parse(statement: &Statement) -> Result<Self> {
        // Of moby's `commit --change`, `SHELL` is none.
        Self::parse_any(statement)?
            .filter(|change| !matches!(change, Self::Shell(_)))
            .ok_or_else(|| Error::NoChange(statement.name.clone()))
    }

    /// As [`Self::parse`], in a file; `None` is an instruction that does more, or none.
    pub(crate) fn parse_any(statement: &Statement) -> Result<Option<Self>> {
        let given = &statement.flags;
        let change = match statement.name.to_ascii_lowercase().as_str() {
            "cmd" => flags::none(given).map(|()| Self::Cmd(command_line(&statement.arguments))),
            "entrypoint" => flags::none(given).map(|()| Self::Entrypoint(command_line(&statement.arguments))),
            "env" => pairs(statement, "ENV").map(Self::Env),
            "expose" => expose(statement),
            "healthcheck" => healthcheck(statement).map(Self::Healthcheck),
            "label" => pairs(statement, "LABEL").map(Self::Label),
            "onbuild" => onbuild(statement),
            "shell" => shell(statement),
            // Flags of this one are not looked at, no more than Docker does.
            "stopsignal" => one(statement, "STOPSIGNAL").map(Self::Stopsignal),
            "user" => one(statement, "USER").and_then(|user| flags::none(given).map(|()| Self::User(user))),
            "volume" => volume(statement),
            "workdir" => {
                one(statement, "WORKDIR").and_then(|path| flags::none(given).map(|()| Self::Workdir(path)))
            }
            _ => return Ok(None),
        };
        change.map(Some)
    }
}

pub(crate) fn command_line(arguments: &Arguments) -> CommandLine {
    match arguments {
        Arguments::Json(words) => CommandLine::Exec(words.clone()),
        other => CommandLine::Shell(other.words().to_vec()),
    }
}

fn pairs(statement: &Statement, name: &'static str) -> Result<Vec<KeyValue>> {
    flags::none(&statement.flags)?;
    let Arguments::Pairs(pairs) = &statement.arguments else { return Err(Error::AtLeastOneArgument(name)) };
    let pair = |(key, value): &(String, String)| match key.as_str() {
        "" => Err(Error::BlankName(name)),
        key => Ok(KeyValue { key: key.to_owned(), value: value.clone() }),
    };
    pairs.iter().map(pair).collect()
}

fn shell(statement: &Statement) -> Result<Change> {
    flags::none(&statement.flags)?;
    match &statement.arguments {
        Arguments::Json(words) if !words.is_empty() => Ok(Change::Shell(words.clone())),
        Arguments::Plain(_) => Err(Error::NotJson("SHELL")),
        _ => Err(Error::AtLeastOneArgument("SHELL")),
    }
}

fn one(statement: &Statement, name: &'static str) -> Result<String> {
    match statement.arguments.words() {
        [word] => Ok(word.clone()),
        _ => Err(Error::ExactlyOneArgument(name)),
    }
}

fn expose(statement: &Statement) -> Result<Change> {
    let mut ports = statement.arguments.words().to_vec();
    if ports.is_empty() {
        return Err(Error::AtLeastOneArgument("EXPOSE"));
    }
    flags::none(&statement.flags)?;
    ports.sort_unstable();
    Ok(Change::Expose(ports))
}

fn volume(statement: &Statement) -> Result<Change> {
    let words = statement.arguments.words();
    if words.is_empty() {
        return Err(Error::AtLeastOneArgument("VOLUME"));
    }
    flags::none(&statement.flags)?;
    let path = |word: &String| match word.trim() {
        "" => Err(Error::EmptyVolume),
        path => Ok(path.to_owned()),
    };
    words.iter().map(path).collect::<Result<_>>().map(Change::Volume)
}

fn onbuild(statement: &Statement) -> Result<Change> {
    let Arguments::Statement(trigger) = &statement.arguments else {
        return Err(Error::AtLeastOneArgument("ONBUILD"));
    };
    flags::none(&statement.flags)?;
    match trigger.name.to_uppercase().as_str() {
        "ONBUILD" => return Err(Error::OnbuildChain),
        name @ ("MAINTAINER" | "FROM") => return Err(Error::OnbuildTrigger(name.to_owned())),
        _ => {}
    }
    let line = statement.line.trim_start();
    Ok(Change::Onbuild(line[statement.name.len()..].trim_start().to_owned()))
}

fn healthcheck(statement: &Statement) -> Result<Healthcheck> {
    let Arguments::Health { kind, command } = &statement.arguments else {
        return Err(Error::AtLeastOneArgument("HEALTHCHECK"));
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        return match **command {
            Arguments::None => Ok(Healthcheck { test: Some(vec![kind]), ..Healthcheck::default() }),
            _ => Err(Error::HealthcheckNone),
        };
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let [interval, timeout, start_period, start_interval, retries] = flags::values(&statement.flags, names)?;
    if kind != "CMD" {
        return Err(Error::HealthcheckType(kind));
    }
    if command.words().is_empty() {
        return Err(Error::HealthcheckCommand);
    }
    let how = if command.is_json() { "CMD" } else { "CMD-SHELL" };
    let mut test = vec![how.to_owned()];
    test.extend_from_slice(command.words());
    Ok(Healthcheck {
        test: Some(test),
        interval: nanoseconds("interval", &interval)?,
        timeout: nanoseconds("timeout", &timeout)?,
        start_period: nanoseconds("start-period", &start_period)?,
        start_interval: nanoseconds("start-interval", &start_interval)?,
        retries: number(&retries)?,
    })
}

fn nanoseconds(flag: &'static str, text: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    match duration::parse(text).map_err(Error::Duration)? {
        0 => Ok(0),
        short if short < SHORTEST => Err(Error::IntervalTooShort(flag)),
        nanoseconds => Ok(nanoseconds),
    }
}

fn number(text: &str) -> Result<i64> {
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = |why| Error::Number { text: text.to_owned(), why };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    match text.parse::<i32>().map_err(|_| wrong("value out of range"))? {
        negative if negative < 0 => Err(Error::NegativeRetries(negative.into())),
        number => Ok(number.into()),
    }
}
