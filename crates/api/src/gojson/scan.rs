//! The syntax of JSON, checked in one pass without recursion, with the words of Go's scanner
//! (source of the texts: Go `encoding/json/scanner.go`).

use super::Error;

/// How deep arrays and objects may nest; readers recurse once per level.
const MAX_DEPTH: usize = 1000;

/// Checks the first value of `text`. Returns the value without white space around it, and what follows it.
pub(super) fn value(text: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let start = skip_space(text, 0);
    if start == text.len() {
        return Err(Error::Eof);
    }
    let end = Scanner { text, at: start, open: Vec::new() }.value()?;
    Ok((&text[start..end], &text[end..]))
}

/// The first character after white space.
pub(super) fn first_of_rest(rest: &[u8]) -> Option<u8> {
    rest.get(skip_space(rest, 0)).copied()
}

/// Go's complaint about a character.
pub(super) fn unexpected(c: u8, context: &str) -> Error {
    let quoted = match c {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{c:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{:04x}'", u32::from(c)),
        _ => format!("'{}'", char::from(c)),
    };
    Error::Syntax(format!("invalid character {quoted} {context}"))
}

/// The index of the first character at or after `at` that is not white space.
pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The end of the string that opens at `at`, in a text already checked.
pub(super) fn string_end(text: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while text[i] != b'"' {
        i += if text[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// The end of the value that begins at `at`, in a text already checked.
pub(super) fn value_end(text: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut i = at;
    while i < text.len() {
        match text[i] {
            b'"' => i = string_end(text, i),
            b'{' | b'[' => {
                depth += 1;
                i += 1;
            }
            b'}' | b']' if depth == 0 => return i,
            b'}' | b']' => {
                depth -= 1;
                i += 1;
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return i,
            _ => {
                i += 1;
                if depth > 0 {
                    continue;
                }
                while matches!(text.get(i), Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.')) {
                    i += 1;
                }
            }
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

#[derive(Clone, Copy, PartialEq)]
enum Container {
    Object,
    Array,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    open: Vec<Container>,
}

impl Scanner<'_> {
    /// Scans one value and returns its end.
    fn value(mut self) -> Result<usize, Error> {
        loop {
            if self.begin_value()? {
                continue;
            }
            // A value has just ended: close what it completes, and go on with what follows a comma.
            loop {
                let Some(&container) = self.open.last() else { return Ok(self.at) };
                if self.after_element(container)? {
                    break;
                }
            }
        }
    }

    /// The next character that is no white space.
    fn next(&mut self) -> Result<u8, Error> {
        self.at = skip_space(self.text, self.at);
        self.here()
    }

    fn here(&self) -> Result<u8, Error> {
        self.text.get(self.at).copied().ok_or(Error::UnexpectedEof)
    }

    /// Reads the beginning of a value; true when that opened a container whose first value comes next.
    fn begin_value(&mut self) -> Result<bool, Error> {
        match self.next()? {
            b'{' => self.begin_object(),
            b'[' => self.begin_array(),
            b'"' => self.string().map(|()| false),
            b'-' | b'0'..=b'9' => self.number().map(|()| false),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            c => Err(unexpected(c, "looking for beginning of value")),
        }
    }

    fn push(&mut self, container: Container) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Error::Syntax("exceeded max depth".into()));
        }
        self.open.push(container);
        self.at += 1;
        Ok(())
    }

    fn begin_object(&mut self) -> Result<bool, Error> {
        self.push(Container::Object)?;
        if self.next()? == b'}' {
            self.open.pop();
            self.at += 1;
            return Ok(false);
        }
        self.key()?;
        Ok(true)
    }

    fn begin_array(&mut self) -> Result<bool, Error> {
        self.push(Container::Array)?;
        if self.next()? == b']' {
            self.open.pop();
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<(), Error> {
        match self.next()? {
            b'"' => self.string()?,
            c => return Err(unexpected(c, "looking for beginning of object key string")),
        }
        match self.next()? {
            b':' => self.at += 1,
            c => return Err(unexpected(c, "after object key")),
        }
        Ok(())
    }

    /// Reads what may follow an element: a comma (true: another value follows) or the end of the container.
    fn after_element(&mut self, container: Container) -> Result<bool, Error> {
        let c = self.next()?;
        match (container, c) {
            (Container::Object, b',') => {
                self.at += 1;
                self.key()?;
                Ok(true)
            }
            (Container::Array, b',') => {
                self.at += 1;
                Ok(true)
            }
            (Container::Object, b'}') | (Container::Array, b']') => {
                self.at += 1;
                self.open.pop();
                Ok(false)
            }
            (Container::Object, _) => Err(unexpected(c, "after object key:value pair")),
            (Container::Array, _) => Err(unexpected(c, "after array element")),
        }
    }

    fn string(&mut self) -> Result<(), Error> {
        self.at += 1;
        loop {
            match self.here()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                c @ 0..0x20 => return Err(unexpected(c, "in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        self.at += 1;
        match self.here()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    let c = self.here()?;
                    if !c.is_ascii_hexdigit() {
                        return Err(unexpected(c, "in \\u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
            }
            c => return Err(unexpected(c, "in string escape code")),
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn at_least_one_digit(&mut self, context: &str) -> Result<(), Error> {
        match self.here()? {
            b'0'..=b'9' => self.digits(),
            c => return Err(unexpected(c, context)),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Error> {
        if self.here()? == b'-' {
            self.at += 1;
        }
        match self.here()? {
            b'0' => self.at += 1,
            _ => self.at_least_one_digit("in numeric literal")?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.at_least_one_digit("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.here()?, b'+' | b'-') {
                self.at += 1;
            }
            self.at_least_one_digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<bool, Error> {
        for expected in word.bytes() {
            let c = self.here()?;
            if c != expected {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(unexpected(c, &context));
            }
            self.at += 1;
        }
        Ok(false)
    }
}
