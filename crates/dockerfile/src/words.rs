//! Splitting a line into words and flags (source: buildkit
//! `frontend/dockerfile/parser/{line_parsers,split_command}.go`).

/// Splits at the first run of blanks, as the parser does for an instruction's name.
pub(crate) fn split_blank(text: &str) -> Option<(&str, &str)> {
    let start = text.find(is_blank)?;
    let rest = &text[start..];
    Some((&text[..start], rest.trim_start_matches(is_blank)))
}

/// All pieces between runs of blanks.
pub(crate) fn split_blanks(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((piece, tail)) = split_blank(rest) {
        pieces.push(piece.to_owned());
        rest = tail;
    }
    pieces.push(rest.to_owned());
    pieces
}

fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Words separated by white space outside of quotes; quotes and escapes stay in them.
pub(crate) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            // Quotes are part of a word, so that an empty one is none.
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if c == escape && quote != Some('\'') {
            // An escape at the very end is dropped.
            if let Some(next) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The `--flags` before an instruction's arguments, unquoted, and the rest.
pub(crate) fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (flag, tail) = unquoted_word(rest, escape);
        if flag == "--" {
            return (flags, tail);
        }
        flags.push(flag);
        rest = tail.trim_start();
    }
    (flags, rest)
}

/// The first word without its quotes and escapes, and what follows it.
fn unquoted_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, &text[at..]),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, next)| next)),
            _ => word.push(c),
        }
    }
    (word, "")
}
