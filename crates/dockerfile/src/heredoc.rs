//! Documents in a file, `RUN <<EOF` (source: buildkit `frontend/dockerfile/parser/parser.go`, `ParseHeredoc`).

use crate::{Result, Statement, words::words};

/// A document that follows a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// What ends it: also the name of the file that it is.
    pub name: String,
    /// Variables in it are expanded: no part of the name was quoted.
    pub expand: bool,
    /// Tabs at the beginning of lines go: `<<-`.
    pub chomp: bool,
    /// Its text so far.
    pub content: String,
}

impl Heredoc {
    /// What a word says of a document; `None` for any other word.
    pub fn parse(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (chomp, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let name: String = rest.chars().filter(|c| !matches!(c, '\'' | '"')).collect();
        let expand = name.len() == rest.len();
        (!name.is_empty()).then(|| Self { name, expand, chomp, content: String::new() })
    }

    /// Takes the next line of the file, its end included; whether it ended the document.
    pub(crate) fn line(&mut self, raw: &str) -> bool {
        let bare = raw.trim_end_matches(['\r', '\n']);
        let bare = if self.chomp { bare.trim_start_matches('\t') } else { bare };
        if bare == self.name {
            return true;
        }
        self.content.push_str(if self.chomp { raw.trim_start_matches('\t') } else { raw });
        false
    }

    /// As it is written in a file, what ends it included.
    pub fn source(&self) -> String {
        format!("{}{}\n", self.content, self.name)
    }
}

/// The documents that follow a line, empty as yet: only some instructions have any.
pub(crate) fn of_line(line: &str, escape: char) -> Result<Vec<Heredoc>> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let statement = Statement::parse(line, escape)?;
    if !statement.may_have_documents() {
        return Ok(Vec::new());
    }
    Ok(words(line, escape).iter().filter_map(|word| Heredoc::parse(word)).collect())
}
