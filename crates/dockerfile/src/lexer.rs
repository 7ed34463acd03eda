//! Quotes, escapes and variables in words (source: buildkit `frontend/dockerfile/shell/lex.go`; POSIX shell command
//! language, 2.6.2).

use crate::{Error, Result};
use regex_lite::Regex;
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

/// `${a:-${b:-...}}` goes no deeper.
const MAX_DEPTH: usize = 100;

/// Variables and their values.
#[derive(Debug, Clone, Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// Those of an environment, `NAME=value`; the last of a name counts.
    pub fn of(env: &[String]) -> Self {
        let pair = |variable: &String| {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            (name.to_owned(), value.to_owned())
        };
        Self(env.iter().map(pair).collect())
    }

    /// Sets one that is not there.
    pub fn set_default(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Sets one, whether it is there or not.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Resolves words.
#[derive(Clone, Copy)]
pub struct Lexer<'v> {
    escape: char,
    variables: &'v Variables,
    /// Gets the names of all variables that are looked up.
    names: Option<&'v RefCell<BTreeSet<String>>>,
}

/// What a word became: as a whole, and split at the blanks that are not quoted.
#[derive(Default)]
struct Resolved {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Resolved {
    /// A character that splits words if it is a blank.
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

impl<'v> Lexer<'v> {
    /// A lexer whose escapes are this character.
    pub fn new(escape: char, variables: &'v Variables) -> Self {
        Self { escape, variables, names: None }
    }

    /// As [`Lexer::new`]; it notes the names of the variables that it looks up.
    pub(crate) fn noting(
        escape: char,
        variables: &'v Variables,
        names: &'v RefCell<BTreeSet<String>>,
    ) -> Self {
        Self { escape, variables, names: Some(names) }
    }

    /// A word without quotes, its variables expanded.
    ///
    /// # Errors
    /// When quotes or braces are not closed, a variable has to be set and is not, or a modifier is unknown.
    pub fn word(&self, word: &str) -> Result<String> {
        self.resolve(word).map(|resolved| resolved.text)
    }

    /// As [`Lexer::word`], split at blanks, also at those that come out of variables.
    ///
    /// # Errors
    /// As [`Lexer::word`].
    pub fn words(&self, word: &str) -> Result<Vec<String>> {
        self.resolve(word).map(Resolved::into_words)
    }

    /// A document's text with its variables expanded; quotes in it are text.
    ///
    /// # Errors
    /// As [`Lexer::word`].
    pub fn document(&self, text: &str) -> Result<String> {
        let mut scan = Scan { lexer: *self, chars: text.chars().collect(), at: 0, raw_escapes: false };
        scan.document().map_err(|why| Error::Word { word: text.to_owned(), why })
    }

    fn resolve(&self, word: &str) -> Result<Resolved> {
        let mut scan = Scan { lexer: *self, chars: word.chars().collect(), at: 0, raw_escapes: false };
        scan.until(None, false, 0).map_err(|why| Error::Word { word: word.to_owned(), why })
    }
}

/// One word being read. Errors are texts here: they get the word in front at the end.
struct Scan<'v> {
    lexer: Lexer<'v>,
    chars: Vec<char>,
    at: usize,
    /// Escapes stay: in patterns, where they mean something.
    raw_escapes: bool,
}

type Text<T = String> = std::result::Result<T, String>;

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Up to the end, or to a character, which is consumed.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool, depth: usize) -> Text<Resolved> {
        if depth > MAX_DEPTH {
            return Err("substitutions in substitutions without end".into());
        }
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let resolved = self.pieces(stop, depth);
        self.raw_escapes = outer;
        resolved
    }

    fn pieces(&mut self, stop: Option<char>, depth: usize) -> Text<Resolved> {
        let mut out = Resolved::default();
        while let Some(c) = self.next() {
            if Some(c) == stop {
                return Ok(out);
            }
            match c {
                '\'' | '"' => {
                    let quoted = if c == '"' { self.double_quoted(depth)? } else { self.single_quoted()? };
                    out.text.push_str(&quoted);
                    out.word.push_str(&quoted);
                }
                '$' => {
                    let value = self.dollar(depth)?;
                    value.chars().for_each(|c| out.push(c));
                    out.text.push_str(&value);
                }
                escape if escape == self.lexer.escape => {
                    let kept = self.raw_escapes.then_some(escape);
                    // An escape at the very end is dropped.
                    for c in kept.into_iter().chain(self.next()) {
                        out.text.push(c);
                        out.word.push(c);
                    }
                }
                c => {
                    out.text.push(c);
                    out.push(c);
                }
            }
        }
        match stop {
            None => Ok(out),
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
        }
    }

    /// As between double quotes, up to the end.
    fn document(&mut self) -> Text {
        let mut out = String::new();
        while let Some(c) = self.next() {
            match c {
                '$' => out.push_str(&self.dollar(0)?),
                escape if escape == self.lexer.escape => match self.peek() {
                    Some(next) if next == '$' || next == escape => {
                        out.push(next);
                        self.at += 1;
                    }
                    _ => out.push(escape),
                },
                c => out.push(c),
            }
        }
        Ok(out)
    }

    fn single_quoted(&mut self) -> Text {
        let start = self.at;
        while let Some(c) = self.next() {
            if c == '\'' {
                return Ok(self.chars[start..self.at - 1].iter().collect());
            }
        }
        Err("unexpected end of statement while looking for matching single-quote".into())
    }

    fn double_quoted(&mut self, depth: usize) -> Text {
        let mut out = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => return Ok(out),
                '$' => out.push_str(&self.dollar(depth)?),
                escape if escape == self.lexer.escape => {
                    if self.raw_escapes {
                        out.push(escape);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if matches!(next, '"' | '$') || next == escape => {
                            out.push(next);
                            self.at += 1;
                        }
                        // Before anything else it is no escape.
                        Some(_) => out.push(escape),
                    }
                }
                c => out.push(c),
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".into())
    }

    /// What a `$` begins.
    fn dollar(&mut self, depth: usize) -> Text {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(missing_brace()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".into()),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(self.value(&name).unwrap_or_default()),
            Some(':') => match self.next() {
                Some(modifier @ ('-' | '+' | '?')) => self.default_or_error(&name, modifier, true, depth),
                Some(modifier @ ('#' | '%')) => Err(unsupported(&format!(":{modifier}"))),
                // That the brace is missing goes before.
                other => self.braced(false, depth).and_then(|_| {
                    Err(unsupported(&format!(":{}", other.unwrap_or(char::REPLACEMENT_CHARACTER))))
                }),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.default_or_error(&name, modifier, false, depth),
            Some(end @ ('#' | '%')) => self.trimmed(&name, end, depth),
            Some('/') => self.replaced(&name, depth),
            other => Err(unsupported(&other.unwrap_or(char::REPLACEMENT_CHARACTER).to_string())),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`, with a colon also for a value that is empty.
    fn default_or_error(&mut self, name: &str, modifier: char, empty_is_unset: bool, depth: usize) -> Text {
        let word = self.braced(false, depth)?;
        let value = self.value(name);
        let is_set = value.as_ref().is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, is_set) {
            ('-', false) | ('+', true) => Ok(word),
            ('+', false) => Ok(String::new()),
            ('?', false) => {
                let why = match (&value, word.as_str()) {
                    (None, "") => "is not allowed to be unset",
                    (Some(_), "") => "is not allowed to be empty",
                    (_, word) => word,
                };
                Err(format!("{name}: {why}"))
            }
            _ => Ok(value.unwrap_or_default()),
        }
    }

    /// `${name#pattern}`, `##`, `%` and `%%`: without what fits at one end, as little or as much as can be.
    fn trimmed(&mut self, name: &str, end: char, depth: usize) -> Text {
        let word = self.braced(true, depth)?;
        let value = self.value(name).unwrap_or_default();
        let (pattern, greedy) = match word.strip_prefix(end) {
            Some(rest) => (rest, true),
            None => (word.as_str(), false),
        };
        if end == '#' {
            return trim_start(pattern, &value, greedy);
        }
        // The shortest match at the end is the shortest one at the start of the reverse.
        let value: String = value.chars().rev().collect();
        Ok(trim_start(&reversed(pattern), &value, greedy)?.chars().rev().collect())
    }

    /// `${name/pattern/word}` once, `${name//pattern/word}` everywhere.
    fn replaced(&mut self, name: &str, depth: usize) -> Text {
        let everywhere = self.peek() == Some('/');
        if everywhere {
            self.at += 1;
        }
        let pattern = self.until(Some('/'), true, depth + 1);
        let pattern = pattern.map_err(|why| self.at_end_or("syntax error: missing '/' in ${}", why))?.text;
        let replacement = self.braced(true, depth)?;
        let value = self.value(name).unwrap_or_default();
        let regex = shell_pattern(&pattern, true, false)?;
        if everywhere {
            return Ok(regex.replace_all(&value, replacement.as_str()).into_owned());
        }
        Ok(match regex.find(&value) {
            Some(found) => [&value[..found.start()], &replacement, &value[found.end()..]].concat(),
            None => value,
        })
    }

    /// The rest of a `${...}`.
    fn braced(&mut self, raw_escapes: bool, depth: usize) -> Text {
        let word = self.until(Some('}'), raw_escapes, depth + 1);
        word.map(|word| word.text).map_err(|why| self.at_end_or("syntax error: missing '}'", why))
    }

    /// What is wrong when the end came too early.
    fn at_end_or(&self, at_end: &str, why: String) -> String {
        if self.peek().is_none() { at_end.to_owned() } else { why }
    }

    /// A name, a number, or one of the special parameters; empty for none.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_numeric() => self.skip(char::is_numeric),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => self.skip(|c| c.is_alphanumeric() || c == '_'),
        }
        self.chars[start..self.at].iter().collect()
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn value(&self, name: &str) -> Option<String> {
        if let Some(names) = self.lexer.names {
            names.borrow_mut().insert(name.to_owned());
        }
        self.lexer.variables.get(name).map(str::to_owned)
    }
}

fn missing_brace() -> String {
    "syntax error: missing '}'".into()
}

fn unsupported(modifier: &str) -> String {
    format!("unsupported modifier ({modifier}) in substitution")
}

fn trim_start(pattern: &str, value: &str, greedy: bool) -> Text {
    let regex = shell_pattern(pattern, greedy, true)?;
    Ok(regex.find(value).map_or(value, |found| &value[found.end()..]).to_owned())
}

/// `*` and `?` as a regular expression; brackets mean themselves.
fn shell_pattern(pattern: &str, greedy: bool, anchored: bool) -> Text<Regex> {
    let invalid = |why: String| format!("invalid pattern ({pattern}) in substitution: {why}");
    let mut out = String::from(if anchored { "^" } else { "" });
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            // These are escaped for the sake of the braces, not of the pattern.
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(c @ ('*' | '?' | '\\')) => out.extend(['\\', c]),
                other => {
                    let c = other.unwrap_or(char::REPLACEMENT_CHARACTER);
                    return Err(invalid(format!("invalid escape '\\{c}'")));
                }
            },
            '[' | ']' | '{' | '}' | '.' | '+' | '(' | ')' | '|' | '^' | '$' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Regex::new(&out).map_err(|error| invalid(error.to_string()))
}

/// The pattern from its end, each escape still before what it escapes.
fn reversed(pattern: &str) -> String {
    let mut pieces: Vec<String> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        pieces.push(std::iter::once(c).chain(escaped).collect());
    }
    pieces.into_iter().rev().collect()
}
