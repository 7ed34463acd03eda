//! The json-file driver's lines (source: moby `daemon/logger/jsonfilelog/jsonlog/jsonlogbytes.go`):
//! `{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2024-01-02T03:04:05.123456789Z"}`.

use crate::entry::Stream;
use crate::time::{self, Formatter};
use serde::Deserialize;
use std::collections::BTreeMap;
use wharf_spec::shim::Timestamp;

const HEX: &[u8; 16] = b"0123456789abcdef";
const LOG_START: &[u8] = b"{\"log\":\"";
const TIME_START: &[u8] = b",\"time\":\"";
const ATTRS_START: &[u8] = b",\"attrs\":";

/// Writes lines; everything constant in them is made once.
#[derive(Debug)]
pub(crate) struct Encoder {
    clock: Formatter,
    /// From the text's closing quote to the time's opening one.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(attrs: &[(String, String)]) -> Encoder {
        let attrs = attrs_object(attrs);
        Encoder {
            clock: Formatter::default(),
            stdout: middle(Stream::Stdout, &attrs),
            stderr: middle(Stream::Stderr, &attrs),
        }
    }

    /// Appends one line. `newline`: the text ends its line.
    pub(crate) fn append(
        &mut self,
        stream: Stream,
        text: &[u8],
        newline: Newline,
        time: Timestamp,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(LOG_START);
        append_escaped(text, Controls::LogText, out);
        if newline == Newline::Yes {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        });
        self.clock.append(time, out);
        out.extend_from_slice(b"\"}\n");
    }
}

/// Whether a text ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newline {
    Yes,
    No,
}

fn middle(stream: Stream, attrs: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.push(b'"');
    if !attrs.is_empty() {
        out.extend_from_slice(ATTRS_START);
        out.extend_from_slice(attrs);
    }
    out.extend_from_slice(TIME_START);
    out
}

/// As Go's `json.Marshal` of a map: sorted keys, HTML characters escaped. Empty for no attributes.
fn attrs_object(attrs: &[(String, String)]) -> Vec<u8> {
    let sorted: BTreeMap<&str, &str> = attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut out = Vec::new();
    for (key, value) in sorted {
        out.push(if out.is_empty() { b'{' } else { b',' });
        for (text, end) in [(key, b':'), (value, 0)] {
            out.push(b'"');
            append_escaped(text.as_bytes(), Controls::GoMarshal, &mut out);
            out.push(b'"');
            if end != 0 {
                out.push(end);
            }
        }
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out
}

/// Which control characters have a short form besides `\n` and `\r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controls {
    /// None: Docker's own encoder of log text.
    LogText,
    /// `\b`, `\f`, `\t`: Go's `encoding/json`.
    GoMarshal,
}

fn append_escaped(text: &[u8], controls: Controls, out: &mut Vec<u8>) {
    let mut start = 0;
    let mut at = 0;
    loop {
        at += plain_prefix(&text[at..]);
        let Some(&byte) = text.get(at) else { break };
        let (width, replacement) = if byte < 0x80 { (1, true) } else { wide(&text[at..]) };
        if replacement {
            out.extend_from_slice(&text[start..at]);
            append_replacement(&text[at..at + width], controls, out);
            start = at + width;
        }
        at += width;
    }
    out.extend_from_slice(&text[start..]);
}

/// How many bytes from the start need no escape and are ASCII.
fn plain_prefix(text: &[u8]) -> usize {
    // Sixteen at a time without a branch inside: the compiler makes vector compares of it.
    let (chunks, _) = text.as_chunks::<16>();
    let plain_chunks = chunks.iter().take_while(|c| c.iter().fold(true, |all, b| all & is_plain(*b))).count();
    let done = plain_chunks * 16;
    done + text[done..].iter().take_while(|b| is_plain(**b)).count()
}

fn is_plain(byte: u8) -> bool {
    // Without `&&`, which would be branches.
    (0x20..0x80).contains(&byte) & !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// The width of the non-ASCII character at the start, and whether it is written in another form. A byte
/// that is no part of valid UTF-8 is one character.
fn wide(text: &[u8]) -> (usize, bool) {
    let width = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (1, true),
    };
    match text.get(..width) {
        Some(bytes) if std::str::from_utf8(bytes).is_ok() => {
            (width, matches!(bytes, [0xe2, 0x80, 0xa8 | 0xa9]))
        }
        _ => (1, true),
    }
}

fn append_replacement(bytes: &[u8], controls: Controls, out: &mut Vec<u8>) {
    match bytes {
        [b @ (b'"' | b'\\')] => out.extend_from_slice(&[b'\\', *b]),
        [b'\n'] => out.extend_from_slice(b"\\n"),
        [b'\r'] => out.extend_from_slice(b"\\r"),
        [b'\t'] if controls == Controls::GoMarshal => out.extend_from_slice(b"\\t"),
        [0x08] if controls == Controls::GoMarshal => out.extend_from_slice(b"\\b"),
        [0x0c] if controls == Controls::GoMarshal => out.extend_from_slice(b"\\f"),
        [b @ 0..0x80] => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
        [0xe2, 0x80, last] => {
            out.extend_from_slice(b"\\u202");
            out.push(HEX[usize::from(last & 15)]);
        }
        _ => out.extend_from_slice(b"\\ufffd"),
    }
}

/// What a line decodes into; kept and reused.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) stream: Option<Stream>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) line: Vec<u8>,
    pub(crate) attrs: Vec<(String, String)>,
    /// The text that `attrs` was read from: in a log they are the same in every line.
    raw_attrs: Vec<u8>,
}

/// Reads a line without its newline. `None`: damaged.
pub(crate) fn decode(text: &[u8], into: &mut Decoded) -> Option<()> {
    match decode_canonical(text, into) {
        Some(()) => Some(()),
        None => decode_any(text, into),
    }
}

/// The exact layout that Docker and [`Encoder`] write.
fn decode_canonical(text: &[u8], into: &mut Decoded) -> Option<()> {
    into.line.clear();
    let body = text.strip_prefix(LOG_START)?;
    let rest = unescape(body, &mut into.line)?.strip_prefix(b",\"stream\":\"")?;
    let (name, rest) = rest.split_at_checked(6)?;
    into.stream = Some(Stream::from_name(name)?);
    let rest = rest.strip_prefix(b"\"")?;
    let rest = match rest.strip_prefix(ATTRS_START) {
        Some(attrs) => decode_attrs(attrs, into)?,
        None => {
            into.attrs.clear();
            into.raw_attrs.clear();
            rest
        }
    };
    into.time = Some(time::parse_bytes(rest.strip_prefix(TIME_START)?.strip_suffix(b"\"}")?)?);
    Some(())
}

/// The attributes up to the time, which is what is returned.
fn decode_attrs<'a>(text: &'a [u8], into: &mut Decoded) -> Option<&'a [u8]> {
    // Inside a string a quote would be escaped, so the last match is the key.
    let end = memchr::memmem::rfind(text, TIME_START)?;
    let (raw, rest) = text.split_at(end);
    if into.raw_attrs != raw {
        let map: BTreeMap<String, String> = serde_json::from_slice(raw).ok()?;
        into.attrs = map.into_iter().collect();
        into.raw_attrs.clear();
        into.raw_attrs.extend_from_slice(raw);
    }
    Some(rest)
}

/// Unescapes a string's inside; returns what follows its closing quote.
fn unescape<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', text)?;
        out.extend_from_slice(&text[..at]);
        if text[at] == b'"' {
            return Some(&text[at + 1..]);
        }
        let escape = *text.get(at + 1)?;
        text = &text[at + 2..];
        match escape {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'"' | b'\\' | b'/' => out.push(escape),
            b'u' => text = unescape_unicode(text, out)?,
            _ => return None,
        }
    }
}

/// After `\u`: four digits, and the second half of a surrogate pair if there is one.
fn unescape_unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, rest) = hex4(text)?;
    let paired = rest.strip_prefix(b"\\u").and_then(hex4).and_then(|(second, after)| {
        let pair = char::decode_utf16([first, second]).next()?.ok()?;
        (0xd800..0xdc00).contains(&first).then_some((pair, after))
    });
    let (character, rest) = match paired {
        Some(found) => found,
        None => (char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER), rest),
    };
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn hex4(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let value = digits
        .iter()
        .try_fold(0u16, |sum, b| Some(sum * 16 + u16::try_from(char::from(*b).to_digit(16)?).ok()?))?;
    Some((value, rest))
}

#[derive(Deserialize)]
struct Any {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
}

/// Any JSON object with these keys, as written by other programs.
fn decode_any(text: &[u8], into: &mut Decoded) -> Option<()> {
    let any: Any = serde_json::from_slice(text).ok()?;
    into.stream = Some(Stream::from_name(any.stream.as_bytes())?);
    into.time = Some(time::parse_rfc3339_nano(&any.time)?);
    into.line.clear();
    into.line.extend_from_slice(any.log.as_bytes());
    into.attrs = any.attrs.unwrap_or_default().into_iter().collect();
    into.raw_attrs.clear();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp { seconds: 1_704_164_645, nanos: 123_456_789 };

    fn encode(text: &[u8], newline: Newline, attrs: &[(&str, &str)]) -> String {
        let attrs: Vec<_> = attrs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut out = Vec::new();
        Encoder::new(&attrs).append(Stream::Stdout, text, newline, TIME, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn decoded(text: &[u8]) -> Option<Decoded> {
        let mut into = Decoded::default();
        decode(text, &mut into)?;
        Some(into)
    }

    #[test]
    fn plain_line_is_docker_s() {
        assert_eq!(
            encode(b"hello world", Newline::Yes, &[]),
            "{\"log\":\"hello world\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-02T03:04:05.123456789Z\"}\n"
        );
    }

    #[test]
    fn partial_line_has_no_newline_and_attrs_are_sorted_and_escaped() {
        assert_eq!(
            encode(b"x", Newline::No, &[("tag", "a<b>\t&\"\u{8}"), ("env", "\u{2028}")]),
            concat!(
                "{\"log\":\"x\",\"stream\":\"stdout\",",
                "\"attrs\":{\"env\":\"\\u2028\",\"tag\":\"a\\u003cb\\u003e\\t\\u0026\\\"\\b\"},",
                "\"time\":\"2024-01-02T03:04:05.123456789Z\"}\n"
            )
        );
    }

    #[test]
    fn escapes_are_docker_s() {
        // Expected texts: worked out by hand from ffjsonWriteJSONBytesAsString.
        let cases: &[(&[u8], &str)] = &[
            (b"\x00\x01\x1f\x7f", "\\u0000\\u0001\\u001f\x7f"),
            (b"\t\x08\x0c\r\n", "\\u0009\\u0008\\u000c\\r\\n"),
            (b"\"\\/", "\\\"\\\\/"),
            (b"<a href='x'>&", "\\u003ca href='x'\\u003e\\u0026"),
            ("é€😀\u{2028}\u{2029}\u{202a}".as_bytes(), "é€😀\\u2028\\u2029\u{202a}"),
            (b"\xff", "\\ufffd"),
            (b"a\xe2\x82", "a\\ufffd\\ufffd"),
            (b"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"),
            (b"\xc0\xafz", "\\ufffd\\ufffdz"),
            (b"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"),
        ];
        for (input, want) in cases {
            let mut out = Vec::new();
            append_escaped(input, Controls::LogText, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), *want, "{input:?}");
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_chunk_escapes_as_alone() {
        for byte in 0..=255u8 {
            let mut alone = Vec::new();
            append_escaped(&[byte], Controls::LogText, &mut alone);
            for at in 0..40 {
                let mut text = vec![b'a'; 40];
                text[at] = byte;
                let mut want = vec![b'a'; at];
                want.extend_from_slice(&alone);
                want.extend(vec![b'a'; 39 - at]);
                let mut out = Vec::new();
                append_escaped(&text, Controls::LogText, &mut out);
                assert_eq!(out, want, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn serde_reads_what_we_write_and_we_read_it_back() {
        let text: String = (0..0x3000u32).filter_map(char::from_u32).collect();
        let line = encode(text.as_bytes(), Newline::Yes, &[("k", "v\",\"time\":\"")]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["log"].as_str().unwrap(), format!("{text}\n"));
        let got = decoded(line.trim_end().as_bytes()).unwrap();
        assert_eq!(got.line, format!("{text}\n").as_bytes());
        assert_eq!(got.time, Some(TIME));
        assert_eq!(got.attrs, [("k".to_string(), "v\",\"time\":\"".to_string())]);
    }

    #[test]
    fn attrs_do_not_stick_to_the_next_line() {
        let mut into = Decoded::default();
        let with = encode(b"x", Newline::Yes, &[("k", "v")]);
        decode(with.trim_end().as_bytes(), &mut into).unwrap();
        assert_eq!(into.attrs.len(), 1);
        decode(encode(b"x", Newline::Yes, &[]).trim_end().as_bytes(), &mut into).unwrap();
        assert!(into.attrs.is_empty());
        decode(with.trim_end().as_bytes(), &mut into).unwrap();
        assert_eq!(into.attrs.len(), 1);
    }

    #[test]
    fn reads_other_orders_escapes_and_surrogates() {
        let text = br#"{ "time":"2024-01-02T03:04:05Z", "stream":"stderr", "extra":1, "log":"\ud83d\ude00\/\u00e9" }"#;
        let got = decoded(text).unwrap();
        assert_eq!(got.line, "😀/é".as_bytes());
        assert_eq!(got.stream, Some(Stream::Stderr));
        let text =
            br#"{"log":"\ud83d\ude00 \ud83dx \udc00\b\f\t","stream":"stdout","time":"2024-01-02T03:04:05Z"}"#;
        assert_eq!(decoded(text).unwrap().line, "😀 \u{fffd}x \u{fffd}\u{8}\u{c}\t".as_bytes());
    }

    #[test]
    fn damaged_lines_are_refused() {
        let good = encode(b"hello \"there\" \xff", Newline::Yes, &[("k", "v")]);
        let good = good.trim_end().as_bytes();
        for cut in 0..good.len() {
            assert!(decoded(&good[..cut]).is_none(), "{cut}");
        }
        for bad in [
            &b""[..],
            b"\0\0\0\0",
            b"{}",
            b"[]",
            b"{\"log\":\"\\q\",\"stream\":\"stdout\",\"time\":\"2024-01-02T03:04:05Z\"}",
        ] {
            assert!(decoded(bad).is_none());
        }
    }
}
