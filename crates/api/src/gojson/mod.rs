//! JSON as Go's `encoding/json` reads and writes it.
//!
//! Reading: object keys match struct fields without regard to ASCII case, the last of several equal keys
//! wins, unknown keys are ignored, `null` leaves a field at its default, and the error texts are Go's
//! ("invalid character 'n' looking for beginning of object key string"), because clients show and compare
//! them. The text is checked as a whole first (`scan`), then read in place (`de`), so a syntax error is
//! found before any type error, as in Go.
//!
//! Where it deviates: type names in errors are Go's only as far as a Rust type tells (an `int` field says
//! `int64`), and the depth of nesting is limited to 1000, not 10000, since readers recurse.
//!
//! Writing: compact, HTML not escaped, U+2028 and U+2029 escaped, one newline at the end.

mod de;
mod scan;

use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, io};

/// Why a text could not be read, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The text has no value at all (`io.EOF` of a decoder).
    Eof,
    /// The text ends within a value, seen by a decoder (`io.ErrUnexpectedEOF`).
    UnexpectedEof,
    /// The text ends within a value or has none, seen by `Unmarshal`.
    UnexpectedEnd,
    /// A character that cannot stand where it stands.
    Syntax(String),
    /// A value of the wrong type for the field it is for.
    Type(Box<TypeError>),
    /// A type's own complaint about its text.
    Custom(String),
}

/// A JSON value that does not fit (Go's `UnmarshalTypeError`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    /// What was found: `string`, `number 1.5`, `object`, ...
    pub value: String,
    /// What was wanted, as a Go type.
    pub wanted: String,
    /// The struct that has the field, when there is one.
    pub within: Option<&'static str>,
    /// The fields from the outermost to the one meant.
    pub path: Vec<&'static str>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("EOF"),
            Self::UnexpectedEof => f.write_str("unexpected EOF"),
            Self::UnexpectedEnd => f.write_str("unexpected end of JSON input"),
            Self::Syntax(text) | Self::Custom(text) => f.write_str(text),
            Self::Type(e) => {
                write!(f, "json: cannot unmarshal {} into Go ", e.value)?;
                match e.within {
                    Some(within) => {
                        write!(f, "struct field {within}.{} of type {}", e.path.join("."), e.wanted)
                    }
                    None => write!(f, "value of type {}", e.wanted),
                }
            }
        }
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

/// Reads a text that is one JSON value (Go's `json.Unmarshal`).
///
/// # Errors
/// When the text is not exactly one value of the type, white space around it aside.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let (value, rest) = scan::value(text).map_err(|e| match e {
        Error::Eof | Error::UnexpectedEof => Error::UnexpectedEnd,
        other => other,
    })?;
    match scan::first_of_rest(rest) {
        Some(c) => Err(scan::unexpected(c, "after top-level value")),
        None => T::deserialize(de::Value::new(value)),
    }
}

/// Reads the first JSON value of a text and returns what follows it (Go's `json.Decoder.Decode`).
///
/// # Errors
/// [`Error::Eof`] where there is nothing but white space, [`Error::UnexpectedEof`] where the value is cut off.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<(T, &[u8]), Error> {
    let (value, rest) = scan::value(text)?;
    Ok((T::deserialize(de::Value::new(value))?, rest))
}

/// Whether another value follows (Go's `json.Decoder.More`, which overlooks a stray `]` or `}`).
pub fn more(rest: &[u8]) -> bool {
    scan::first_of_rest(rest).is_some_and(|c| c != b']' && c != b'}')
}

/// Writes a value as the API does: compact, one newline at the end.
///
/// # Errors
/// When a type cannot be written as JSON, which no type of this crate does.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter))?;
    out.push(b'\n');
    Ok(out)
}

/// serde_json's compact form, with the two characters escaped that Go always escapes.
struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !text.contains(['\u{2028}', '\u{2029}']) {
            return out.write_all(text.as_bytes());
        }
        out.write_all(text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        memory: i64,
        links: Option<Vec<String>>,
        weight: u16,
    }

    #[derive(Debug, PartialEq, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        tty: bool,
        stop: Option<i64>,
        host_config: Inner,
        labels: BTreeMap<String, String>,
    }

    fn read(text: &str) -> Result<Outer, Error> {
        from_slice(text.as_bytes())
    }

    fn complaint(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn keys_match_as_go_matches_them() {
        let outer = read(
            r#" {"NAME":"first", "x":[{"deep":[1,2,{}]}], "name":"last", "hostconfig":{"MEMORY":7,"links":null},
                "tty":null, "Labels":{"A":"1","a":"2"}, "Stop": 3} "#,
        )
        .unwrap();
        assert_eq!(
            (outer.name.as_str(), outer.tty, outer.stop, outer.host_config.memory),
            ("last", false, Some(3), 7)
        );
        assert_eq!(outer.labels.len(), 2, "keys of maps keep their case");
    }

    #[test]
    fn syntax_errors_are_gos() {
        for (text, want) in [
            ("{nope", "invalid character 'n' looking for beginning of object key string"),
            ("not json", "invalid character 'o' in literal null (expecting 'u')"),
            ("", "unexpected end of JSON input"),
            ("{\"a\"", "unexpected end of JSON input"),
            ("{\"a\":1}x", "invalid character 'x' after top-level value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            (r#""\q""#, "invalid character 'q' in string escape code"),
            (r#""\u12g4""#, "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("tru}", "invalid character '}' in literal true (expecting 'e')"),
        ] {
            assert_eq!(complaint(text), want, "{text}");
        }
        assert_eq!(complaint(&"[".repeat(100_000)), "exceeded max depth");
    }

    #[test]
    fn a_decoder_takes_one_value_and_says_eof() {
        assert_eq!(decode::<Outer>(b" \n").unwrap_err(), Error::Eof);
        assert_eq!(decode::<Outer>(b"{\"a\"").unwrap_err(), Error::UnexpectedEof);
        let (outer, rest) = decode::<Outer>(b"{\"name\":\"x\"} {}").unwrap();
        assert_eq!((outer.name.as_str(), rest, more(rest)), ("x", b" {}".as_slice(), true));
        assert!(!more(b" \n") && !more(b" }"));
    }

    #[test]
    fn type_errors_name_the_field() {
        for (text, want) in [
            (
                r#"{"HostConfig":{"Memory":"1"}}"#,
                "string into Go struct field Inner.HostConfig.Memory of type int64",
            ),
            (r#"{"name":1}"#, "number into Go struct field Outer.Name of type string"),
            (
                r#"{"HostConfig":{"Memory":1.5}}"#,
                "number 1.5 into Go struct field Inner.HostConfig.Memory of type int64",
            ),
            (
                r#"{"HostConfig":{"Weight":70000}}"#,
                "number 70000 into Go struct field Inner.HostConfig.Weight of type uint16",
            ),
            (r#"{"Tty":"yes"}"#, "string into Go struct field Outer.Tty of type bool"),
            (r#"{"HostConfig":[]}"#, "array into Go struct field Outer.HostConfig of type Inner"),
            ("[]", "array into Go value of type Outer"),
        ] {
            assert_eq!(complaint(text), format!("json: cannot unmarshal {want}"), "{text}");
        }
    }

    #[test]
    fn strings_are_read_leniently() {
        let text = from_slice::<String>(br#""a\/\u00e9\ud83d\ude00\ud800x\n""#).unwrap();
        assert_eq!(text, "a/é😀\u{fffd}x\n");
        assert_eq!(from_slice::<String>(b"\"\xff\"").unwrap(), "\u{fffd}");
        let value: serde_json::Value = from_slice(br#"{"a":[1,-2,1.5,true,null,"x"]}"#).unwrap();
        assert_eq!(value, serde_json::json!({"a": [1, -2, 1.5, true, null, "x"]}));
    }

    /// Every text at one edit from a good one: no panic, and the same verdict as serde_json's.
    #[test]
    fn damaged_texts_are_judged_as_by_serde_json() {
        let good = br#" {"a":[1,-2.5e3,true,null,"x\n\u00e9"],"b":{"c":{}},"d":"" , "e":[[]] } "#;
        for at in 0..good.len() {
            for byte in *br#"{}[]",:\0-.e n/a"# {
                let mut replaced = good.to_vec();
                replaced[at] = byte;
                let mut inserted = good.to_vec();
                inserted.insert(at, byte);
                for text in [replaced, inserted, good[..at].to_vec(), good[at..].to_vec()] {
                    let ours = from_slice::<serde_json::Value>(&text);
                    let theirs = serde_json::from_slice::<serde_json::Value>(&text);
                    assert_eq!(ours.is_ok(), theirs.is_ok(), "{}: {ours:?}", String::from_utf8_lossy(&text));
                    if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                        assert_eq!(ours, theirs);
                    }
                }
            }
        }
    }

    #[test]
    fn html_is_written_as_it_is() {
        assert_eq!(to_vec("<a>&\u{2028}").unwrap(), b"\"<a>&\\u2028\"\n");
    }
}
