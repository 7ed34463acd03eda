//! The parameters after the `?`, read as Go's `net/url` and moby's `httputils/form.go` read them.

use crate::error::{Error, Result};
use wharf_spec::plan::TerminalSize;

/// Parameters in the order given.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads a query.
    ///
    /// # Errors
    /// With Go's text, for bad escapes and semicolons.
    pub(crate) fn parse(query: &str) -> Result<Self> {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                return Err(Error::invalid("invalid semicolon separator in query"));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(key, true)?, unescape(value, true)?));
        }
        Ok(Self { pairs })
    }

    /// The first value of a parameter, empty when it is not given.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.pairs.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether it is given at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(k, _)| k == key)
    }

    /// False for nothing, `0`, `no`, `false` and `none`; true for anything else.
    pub(crate) fn bool(&self, key: &str) -> bool {
        !matches!(self.get(key).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Self::bool`], with a default for a parameter that is not given.
    pub(crate) fn bool_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.bool(key) } else { default }
    }

    /// A number that may be left out.
    ///
    /// # Errors
    /// With the text of Go's `strconv.Atoi`.
    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        match parse_int(text) {
            Ok(n) => Ok(Some(n)),
            Err(why) => Err(Error::invalid(format!("strconv.Atoi: parsing {text:?}: {why}"))),
        }
    }

    /// The new size of a terminal, `h` and `w`.
    ///
    /// # Errors
    /// `invalid resize height "x": invalid syntax`.
    pub(crate) fn terminal_size(&self) -> Result<TerminalSize> {
        Ok(TerminalSize { rows: self.dimension("h", "height")?, columns: self.dimension("w", "width")? })
    }

    /// One side of it (source: moby `httputils.Uint32Value`).
    fn dimension(&self, key: &str, what: &str) -> Result<u16> {
        let text = self.get(key);
        let why = match parse_int(text) {
            Ok(_) if text.starts_with('+') => "invalid syntax",
            Ok(n) if u32::try_from(n).is_ok() => return Ok(u16::try_from(n).unwrap_or(u16::MAX)),
            Ok(_) => "value out of range",
            Err(why) => why,
        };
        Err(Error::invalid(format!("invalid resize {what} {text:?}: {why}")))
    }

    /// The `filters`.
    ///
    /// # Errors
    /// `invalid filter`.
    pub(crate) fn filters(&self) -> Result<wharf_api::filters::Filters> {
        Ok(wharf_api::filters::Filters::from_json(self.get("filters"))?)
    }
}

fn parse_int(text: &str) -> Result<i64, &'static str> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    text.parse().map_err(|_| "value out of range")
}

/// Resolves `%xx`, and `+` in a query.
///
/// # Errors
/// `invalid URL escape "%zz"`, as Go.
pub(crate) fn unescape(text: &str, query: bool) -> Result<String> {
    let bytes = text.as_bytes();
    let is_plain = bytes.iter().all(|b| *b != b'%' && !(query && *b == b'+'));
    if is_plain {
        return Ok(text.to_owned());
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
                let hex = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(byte) = hex.and_then(|d| u8::from_str_radix(d, 16).ok()) else {
                    let shown = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned();
                    return Err(Error::invalid(format!("invalid URL escape {shown:?}")));
                };
                out.push(byte);
                at += 3;
            }
            b'+' if query => {
                out.push(b' ');
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_gos() {
        let form = Form::parse("a=1&b=x+y%2Fz&b=2&c&d=&t=tRue").unwrap();
        assert_eq!(form.get("b"), "x y/z");
        assert_eq!(form.all("b").collect::<Vec<_>>(), ["x y/z", "2"]);
        assert!(form.has("c") && !form.bool("c") && form.bool("a") && form.bool("t") && !form.bool("d"));
        assert!(form.bool_or("absent", true));
        for (query, want) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%2", "invalid URL escape \"%2\""),
            ("a=é%é", "invalid URL escape \"%é\""),
            ("a;b", "invalid semicolon separator in query"),
        ] {
            assert_eq!(Form::parse(query).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn numbers_have_gos_errors() {
        let form = Form::parse("limit=x&big=99999999999999999999&t=-1&h=x&w=80&n=-1&e=").unwrap();
        assert_eq!(form.int("limit").unwrap_err().to_string(), "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(
            form.int("big").unwrap_err().to_string(),
            "strconv.Atoi: parsing \"99999999999999999999\": value out of range"
        );
        assert_eq!((form.int("t").unwrap(), form.int("e").unwrap()), (Some(-1), None));
        assert_eq!(
            form.dimension("h", "height").unwrap_err().to_string(),
            "invalid resize height \"x\": invalid syntax"
        );
        assert_eq!(
            form.dimension("n", "width").unwrap_err().to_string(),
            "invalid resize width \"-1\": value out of range"
        );
        assert_eq!(form.dimension("w", "width").unwrap(), 80);
        assert!(form.dimension("absent", "width").is_err());
    }
}
