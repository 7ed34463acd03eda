//! Patterns of paths: `.dockerignore`, and the wildcards of `COPY` (source: moby/patternmatcher
//! `patternmatcher.go` and `ignorefile/ignorefile.go`; Go `path/filepath` `Match`).

use regex_lite::Regex;

/// The lines of a `.dockerignore`.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// What matches is taken back in.
    exception: bool,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    /// `prefix**`
    Prefix(String),
    /// `**suffix`
    Suffix(String),
    Regex(Box<Regex>),
    /// It is none: nothing matches.
    Broken,
}

impl Patterns {
    /// Reads the file's text.
    ///
    /// # Errors
    /// For an exception of nothing, and brackets that are not closed.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let relative = |line: &str| {
            let (sign, rest) = match line.strip_prefix('!') {
                Some(rest) => ("!", rest.trim()),
                None => ("", line),
            };
            let rest = if rest.is_empty() { String::new() } else { clean(rest) };
            let rest = rest.strip_prefix('/').filter(|inner| !inner.is_empty()).unwrap_or(&rest);
            format!("{sign}{rest}")
        };
        let patterns: Vec<String> = lines.filter(|line| !line.is_empty()).map(relative).collect();
        Self::new(&patterns)
    }

    /// From patterns, each `[!]pattern`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut made = Vec::new();
        for pattern in patterns.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.is_empty()) {
            let cleaned = clean(pattern);
            let (exception, rest) = match cleaned.strip_prefix('!') {
                Some("") => return Err("illegal exclusion pattern: \"!\"".into()),
                Some(rest) => (true, rest),
                None => (false, cleaned.as_str()),
            };
            glob(rest, ".")?;
            made.push(Pattern { exception, matcher: Matcher::new(rest) });
        }
        Ok(Self { patterns: made })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether something below a directory that is left out may be taken back in.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether a path, relative and with slashes, or one of its parents is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            if pattern.exception == excluded
                && (pattern.matcher.matches(path) || pattern.matches_parent(path))
            {
                excluded = !pattern.exception;
            }
        }
        excluded
    }
}

impl Pattern {
    fn matches_parent(&self, path: &str) -> bool {
        path.match_indices('/').any(|(at, _)| self.matcher.matches(&path[..at]))
    }
}

impl Matcher {
    fn new(pattern: &str) -> Self {
        let (kind, regex) = translate(pattern);
        match kind {
            Kind::Exact => Self::Exact(pattern.to_owned()),
            Kind::Prefix => Self::Prefix(pattern[..pattern.len() - 2].to_owned()),
            Kind::Suffix => Self::Suffix(pattern[2..].to_owned()),
            Kind::Regex => {
                Regex::new(&format!("^{regex}$")).map_or(Self::Broken, |regex| Self::Regex(Box::new(regex)))
            }
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(pattern) => path == pattern,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            Self::Regex(regex) => regex.is_match(path),
            Self::Broken => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

/// A pattern with `**` as a regular expression, and whether one is needed.
fn translate(pattern: &str) -> (Kind, String) {
    let (mut kind, mut out) = (Kind::Exact, String::new());
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                chars.next_if_eq(&'/');
                match (chars.peek(), kind) {
                    (None, Kind::Exact) => kind = Kind::Prefix,
                    (None, _) => {
                        out.push_str(".*");
                        kind = Kind::Regex;
                    }
                    (Some(_), _) => {
                        out.push_str("(.*/)?");
                        kind = Kind::Regex;
                    }
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                out.push_str("[^/]*");
                kind = Kind::Regex;
            }
            '?' => {
                out.push_str("[^/]");
                kind = Kind::Regex;
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => out.extend(['\\', c]),
            '\\' => match chars.next() {
                Some(next) => {
                    escape(&mut out, next);
                    kind = Kind::Regex;
                }
                None => out.push_str("\\\\"),
            },
            '[' | ']' => {
                out.push(c);
                kind = Kind::Regex;
            }
            c => out.push(c),
        }
        first = false;
    }
    (kind, out)
}

/// One character that means itself.
fn escape(out: &mut String, c: char) {
    if !c.is_alphanumeric() {
        out.push('\\');
    }
    out.push(c);
}

/// Go's `filepath.Match`: `*` and `?` stop at slashes, `**` is nothing special.
///
/// # Errors
/// `syntax error in pattern`.
pub fn glob(pattern: &str, name: &str) -> Result<bool, String> {
    let bad = || "syntax error in pattern".to_owned();
    let mut out = String::from("^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '\\' => escape(&mut out, chars.next().ok_or_else(bad)?),
            '[' => bracket(&mut chars, &mut out).ok_or_else(bad)?,
            c => escape(&mut out, c),
        }
    }
    out.push('$');
    Ok(Regex::new(&out).map_err(|_| bad())?.is_match(name))
}

/// A class of characters up to its bracket; `None` when it is none.
fn bracket(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Option<()> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut count = 0;
    while count == 0 || chars.peek() != Some(&']') {
        class_character(chars, out)?;
        if chars.next_if_eq(&'-').is_some() {
            out.push('-');
            class_character(chars, out)?;
        }
        count += 1;
    }
    chars.next();
    out.push(']');
    Some(())
}

fn class_character(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Option<()> {
    let c = match chars.next()? {
        '-' | ']' => return None,
        '\\' => chars.next()?,
        c => c,
    };
    escape(out, c);
    Some(())
}

/// Go's `filepath.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Patterns::new(&patterns).unwrap().excludes(path)
    }

    /// moby/patternmatcher's own table.
    #[test]
    fn paths_match_as_mobys_do() {
        let mut cases = 0;
        for line in include_str!("ignore_cases.txt").lines() {
            let [pattern, path, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let patterns: Vec<&str> = pattern.split('\u{1}').collect();
            assert_eq!(excludes(&patterns, path), expected == "true", "{patterns:?} {path}");
            cases += 1;
        }
        assert_eq!(cases, 71);
    }

    #[test]
    fn files_are_read_as_mobys_are() {
        let read = Patterns::read("\u{feff}# comment\n /abs/x \n\n!  /abs/x/keep\n./rel/../other\n").unwrap();
        let all = ["abs/x/a", "abs/x/keep", "rel", "other", "# comment"].map(|path| read.excludes(path));
        assert_eq!(all, [true, false, false, true, false]);
        assert!(read.has_exceptions() && !read.is_empty());
        assert_eq!(Patterns::read("!").unwrap_err(), "illegal exclusion pattern: \"!\"");
        assert_eq!(Patterns::read("a[").unwrap_err(), "syntax error in pattern");
    }

    #[test]
    fn wildcards_are_gos() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("a*/b", "a/c/b", false),
            ("a**", "a/b", false),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("[\\-x]", "-", true),
            ("a?b", "a☺b", true),
            ("*.txt", "sub/x.txt", false),
            ("x.y", "xzy", false),
        ] {
            assert_eq!(glob(pattern, name), Ok(expected), "{pattern} {name}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[a", "a\\", "[a-b-c]"] {
            assert!(glob(bad, "a").is_err(), "{bad}");
        }
    }
}
