//! One line, taken apart by the grammar of its instruction (source: buildkit
//! `frontend/dockerfile/parser/{parser,line_parsers}.go`).

use crate::{
    Error, Result,
    words::{flags, split_blank, split_blanks, words},
};

/// An instruction's line, taken apart. What the name means is not checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The name as written.
    pub name: String,
    /// `--name[=value]`, unquoted.
    pub flags: Vec<String>,
    /// What follows.
    pub arguments: Arguments,
    /// The whole line.
    pub line: String,
}

/// What follows an instruction's name and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arguments {
    /// A JSON array.
    Json(Vec<String>),
    /// Words, or the rest of the line as one.
    Plain(Vec<String>),
    /// `name=value`, quotes still on.
    Pairs(Vec<(String, String)>),
    /// A type and what it takes.
    Health {
        /// Such as `CMD`.
        kind: String,
        /// The command.
        command: Box<Arguments>,
    },
    /// Another instruction.
    Statement(Box<Statement>),
    /// Nothing.
    None,
}

impl Arguments {
    /// The words, whatever form they have.
    pub fn words(&self) -> &[String] {
        match self {
            Self::Json(words) | Self::Plain(words) => words,
            _ => &[],
        }
    }

    /// Whether they were a JSON array.
    pub fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }
}

/// How arguments are written.
enum Grammar {
    Json,
    JsonOrWords,
    Pairs(&'static str),
    Words,
    QuotedWords,
    Line,
    Health,
    Statement,
}

/// Levels of `ONBUILD` that are looked into; two are an error already.
const MAX_DEPTH: usize = 4;

impl Statement {
    /// Takes a line apart.
    ///
    /// # Errors
    /// When the arguments are not what the instruction's grammar says.
    pub fn parse(line: &str, escape: char) -> Result<Self> {
        Self::parse_at(line, escape, MAX_DEPTH)
    }

    fn parse_at(line: &str, escape: char, depth: usize) -> Result<Self> {
        let trimmed = line.trim();
        let (name, rest) = split_blank(trimmed).unwrap_or((trimmed, ""));
        let (flags, rest) = flags(rest, escape);
        let rest = rest.trim();
        let arguments = match grammar(name) {
            _ if rest.is_empty() => Arguments::None,
            None => Arguments::None,
            Some(Grammar::Json) => json_or(rest, |rest| vec![rest.to_owned()])?,
            Some(Grammar::JsonOrWords) => json_or(rest, split_blanks)?,
            Some(Grammar::Pairs(name)) => Arguments::Pairs(pairs(rest, name, escape)?),
            Some(Grammar::Words) => Arguments::Plain(split_blanks(rest)),
            Some(Grammar::QuotedWords) => Arguments::Plain(words(rest, escape)),
            Some(Grammar::Line) => Arguments::Plain(vec![rest.to_owned()]),
            Some(Grammar::Health) => health(rest)?,
            Some(Grammar::Statement) if depth == 0 => Arguments::None,
            Some(Grammar::Statement) => {
                Arguments::Statement(Box::new(Self::parse_at(rest, escape, depth - 1)?))
            }
        };
        Ok(Self { name: name.to_owned(), flags, arguments, line: line.to_owned() })
    }

    /// Whether `<<` in it begins a document.
    pub(crate) fn may_have_documents(&self) -> bool {
        if let Arguments::Statement(trigger) = &self.arguments {
            return trigger.may_have_documents();
        }
        let takes = matches!(self.name.to_ascii_lowercase().as_str(), "add" | "copy" | "run");
        takes && !self.arguments.is_json()
    }
}

/// An instruction that there is not has none.
fn grammar(name: &str) -> Option<Grammar> {
    Some(match name.to_ascii_lowercase().as_str() {
        "cmd" | "entrypoint" | "run" | "shell" => Grammar::Json,
        "add" | "copy" | "volume" => Grammar::JsonOrWords,
        "env" => Grammar::Pairs("ENV"),
        "label" => Grammar::Pairs("LABEL"),
        "expose" | "from" => Grammar::Words,
        "arg" => Grammar::QuotedWords,
        "maintainer" | "stopsignal" | "user" | "workdir" => Grammar::Line,
        "healthcheck" => Grammar::Health,
        "onbuild" => Grammar::Statement,
        _ => return None,
    })
}

/// What looks like JSON and is none is something else.
fn json_or(rest: &str, other: impl FnOnce(&str) -> Vec<String>) -> Result<Arguments> {
    if rest.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest)
    {
        let text = |value| match value {
            serde_json::Value::String(text) => Ok(text),
            _ => Err(Error::NotStrings),
        };
        return values.into_iter().map(text).collect::<Result<_>>().map(Arguments::Json);
    }
    Ok(Arguments::Plain(other(rest)))
}

/// `name=value ...`, or of old `name value`.
fn pairs(rest: &str, instruction: &'static str, escape: char) -> Result<Vec<(String, String)>> {
    let words = words(rest, escape);
    if !words.first().is_some_and(|first| first.contains('=')) {
        let (name, value) = split_blank(rest).ok_or(Error::TwoArguments(instruction))?;
        return Ok(vec![(name.to_owned(), value.to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Error::NoEqualsSign(word)),
    };
    words.into_iter().map(pair).collect()
}

fn health(rest: &str) -> Result<Arguments> {
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (kind, command) = (rest[..end].to_owned(), rest[end..].trim_start());
    let command = match command {
        "" => Arguments::None,
        command => json_or(command, |rest| vec![rest.to_owned()])?,
    };
    Ok(Arguments::Health { kind, command: Box::new(command) })
}
