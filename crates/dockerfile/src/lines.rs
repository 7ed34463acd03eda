//! A file's logical lines: parser directives read, comments dropped, continued lines joined (source: buildkit
//! `frontend/dockerfile/parser/{parser,directives}.go`).

use crate::{Error, Result, heredoc, heredoc::Heredoc};

/// The longest line, its end included (source: Go `bufio.MaxScanTokenSize`).
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// The logical lines of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// What escapes a character and continues a line: a backslash unless the file says otherwise.
    pub escape: char,
    /// None is empty.
    pub lines: Vec<Line>,
    /// What is doubtful, in Docker's words.
    pub warnings: Vec<String>,
}

/// A logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text, continuations joined.
    pub text: String,
    /// Number of its first line in the file, from 1.
    pub start: usize,
    /// Number of its last.
    pub end: usize,
    /// The documents that follow it.
    pub heredocs: Vec<Heredoc>,
}

/// Reads a file's lines.
///
/// # Errors
/// When there are none, a line is too long, a heredoc has no end, or a directive is wrong.
pub fn lines(source: &str) -> Result<Lines> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut reader = Reader::default();
    let mut too_long = false;
    for (at, raw) in source.split_inclusive('\n').enumerate() {
        too_long = raw.len() > MAX_LINE || (raw.len() == MAX_LINE && !raw.ends_with('\n'));
        if too_long {
            break;
        }
        reader.line(at + 1, raw)?;
    }
    reader.close()?;
    match (reader.lines.is_empty(), too_long) {
        _ if !reader.awaited.is_empty() => Err(Error::UnterminatedHeredoc),
        (true, _) => Err(Error::NoInstructions),
        (false, true) => Err(Error::LineTooLong),
        (false, false) => {
            Ok(Lines { escape: reader.directives.escape, lines: reader.lines, warnings: reader.warnings })
        }
    }
}

#[derive(Default)]
struct Reader {
    directives: Directives,
    lines: Vec<Line>,
    /// A line whose continuation is awaited.
    open: Option<Line>,
    /// An empty line continued it.
    has_gap: bool,
    /// Documents of the last line that have not ended, the first of them being read.
    awaited: std::collections::VecDeque<Heredoc>,
    warnings: Vec<String>,
}

impl Reader {
    fn line(&mut self, number: usize, raw: &str) -> Result<()> {
        if let Some(document) = self.awaited.front_mut() {
            let ended = document.line(raw);
            let line = self.lines.last_mut().into_iter();
            line.for_each(|line| line.end = number);
            if ended {
                let document = self.awaited.pop_front();
                self.lines.last_mut().into_iter().for_each(|line| line.heredocs.extend(document.clone()));
            }
            return Ok(());
        }
        let raw = raw.trim_end_matches(['\r', '\n']);
        let text = if self.open.is_none() { raw.trim_start() } else { raw };
        self.directives.read(text)?;
        let is_comment = raw.trim_start().starts_with('#');
        let is_blank = raw.trim_start().is_empty();
        if is_comment || is_blank {
            // Neither ends a line that is continued.
            self.has_gap |= is_blank && self.open.is_some();
            return Ok(());
        }
        let continued = without_continuation(text, self.directives.escape);
        let new = Line { text: String::new(), start: number, end: number, heredocs: Vec::new() };
        let mut open = self.open.take().unwrap_or(new);
        open.text.push_str(continued.unwrap_or(text));
        open.end = number;
        self.open = Some(open);
        if continued.is_none() {
            self.close()?;
        }
        Ok(())
    }

    /// A continuation at the end of the file is none.
    fn close(&mut self) -> Result<()> {
        let Some(line) = self.open.take() else { return Ok(()) };
        if std::mem::take(&mut self.has_gap) {
            self.warnings.push(format!("Empty continuation line found in: {}", line.text));
        }
        self.awaited = heredoc::of_line(&line.text, self.directives.escape)?.into();
        self.lines.push(line);
        Ok(())
    }
}

/// What is before the token that continues the line. One that is itself escaped continues nothing.
fn without_continuation(text: &str, escape: char) -> Option<&str> {
    let before = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before)
}

/// `# escape=` and the others, at the top only.
struct Directives {
    escape: char,
    seen: Vec<String>,
    done: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', seen: Vec::new(), done: false }
    }
}

impl Directives {
    fn read(&mut self, line: &str) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let Some((name, value)) = line.strip_prefix('#').and_then(directive) else {
            self.done = true;
            return Ok(());
        };
        if self.seen.contains(&name) {
            return Err(Error::DirectiveTwice(name));
        }
        if name == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                other => return Err(Error::EscapeToken(other.to_owned())),
            };
        }
        self.seen.push(name);
        Ok(())
    }
}

/// `name = value` of a directive that there is.
fn directive(comment: &str) -> Option<(String, &str)> {
    let (name, value) = comment.trim_start().split_once('=')?;
    let name = name.trim_end().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}
