//! The `local` driver's entries: `[u32 BE length][protobuf][u32 BE length]` (source: moby
//! `daemon/logger/local/local.go` and `daemon/logger/internal/logdriver/entry.proto`).
//!
//! ```text
//! LogEntry { source string = 1; time_nano int64 = 2; line bytes = 3; partial bool = 4;
//!            partial_log_metadata = 5 { last bool = 1; id string = 2; ordinal int32 = 3 };
//!            attrs repeated = 6 { key string = 1; value string = 2 } }
//! ```

use crate::entry::{Partial, Stream};
use wharf_spec::shim::Timestamp;

/// Larger messages are damage (source: moby `daemon/logger/local/read.go`, maxMsgLen).
pub(crate) const MAX_MESSAGE: usize = 1_000_000;
/// Length before and after.
pub(crate) const FRAME_EXTRA: usize = 8;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const WIRE_VARINT: u64 = 0;
const WIRE_FIXED64: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_FIXED32: u64 = 5;

/// Writes entries; the attributes are encoded once.
#[derive(Debug)]
pub(crate) struct Encoder {
    attrs: Vec<u8>,
    partial: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(attrs: &[(String, String)]) -> Encoder {
        let mut sorted: Vec<_> = attrs.iter().collect();
        sorted.sort();
        let mut encoded = Vec::new();
        for (key, value) in sorted {
            let mut one = Vec::new();
            put_bytes(1, key.as_bytes(), &mut one);
            put_bytes(2, value.as_bytes(), &mut one);
            put_message(6, &one, &mut encoded);
        }
        Encoder { attrs: encoded, partial: Vec::new() }
    }

    /// Appends one entry; `line` is without its newline, which the reader adds.
    pub(crate) fn append(
        &mut self,
        stream: Stream,
        line: &[u8],
        partial: Option<&Partial>,
        time: Timestamp,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        put_bytes(1, stream.name().as_bytes(), out);
        let nanos = time.seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(i64::from(time.nanos));
        put_varint_field(2, nanos.cast_unsigned(), out);
        put_bytes(3, line, out);
        if let Some(partial) = partial {
            put_varint_field(4, 1, out);
            self.partial.clear();
            put_varint_field(1, u64::from(partial.last), &mut self.partial);
            put_bytes(2, partial.id.as_bytes(), &mut self.partial);
            put_varint_field(3, i64::from(partial.ordinal).cast_unsigned(), &mut self.partial);
            put_message(5, &self.partial, out);
        }
        out.extend_from_slice(&self.attrs);
        // A line is at most 16 KiB and attributes come from a container's configuration: it fits.
        let length = ((out.len() - start - 4) as u32).to_be_bytes();
        out[start..start + 4].copy_from_slice(&length);
        out.extend_from_slice(&length);
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zero is left out, as proto3 does.
fn put_varint_field(field: u64, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        put_varint(field << 3 | WIRE_VARINT, out);
        put_varint(value, out);
    }
}

/// Empty is left out, as proto3 does.
fn put_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        put_message(field, bytes, out);
    }
}

fn put_message(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(field << 3 | WIRE_BYTES, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// What is at the start of some bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A whole frame of this many bytes in all, the message inside being at 4..size-4.
    Whole(usize),
    /// More bytes are needed to tell.
    Incomplete,
    /// No frame starts here.
    Damaged,
}

/// Looks at the lengths only.
pub(crate) fn frame_at(bytes: &[u8]) -> Frame {
    let Some(length) = be32(bytes) else { return Frame::Incomplete };
    let length = length as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Frame::Damaged;
    }
    match bytes.get(4 + length..).and_then(be32) {
        None => Frame::Incomplete,
        Some(again) if again as usize == length => Frame::Whole(length + FRAME_EXTRA),
        Some(_) => Frame::Damaged,
    }
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

/// What a message decodes into; kept and reused.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) stream: Option<Stream>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) line: Vec<u8>,
    pub(crate) partial: Option<Partial>,
    pub(crate) attrs: Vec<(String, String)>,
}

/// Reads a message; `None` when it is damaged. The line gets its newline back.
pub(crate) fn decode(mut message: &[u8], into: &mut Decoded) -> Option<()> {
    into.line.clear();
    into.attrs.clear();
    into.stream = None;
    into.time = Some(Timestamp { seconds: 0, nanos: 0 });
    into.partial = None;
    let mut partial = None;
    let mut is_partial = false;
    while !message.is_empty() {
        match take_field(&mut message)? {
            (1, Value::Bytes(name)) => into.stream = Some(Stream::from_name(name)?),
            (2, Value::Number(nanos)) => into.time = Some(from_nanos(nanos.cast_signed())),
            (3, Value::Bytes(line)) => into.line.extend_from_slice(line),
            (4, Value::Number(flag)) => is_partial = flag != 0,
            (5, Value::Bytes(inner)) => partial = Some(decode_partial(inner)?),
            (6, Value::Bytes(inner)) => into.attrs.push(decode_attr(inner)?),
            _ => {}
        }
    }
    into.stream?;
    if is_partial {
        into.partial = Some(partial.unwrap_or_default());
    }
    if into.partial.as_ref().is_none_or(|p| p.last) {
        into.line.push(b'\n');
    }
    Some(())
}

fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp {
        seconds: nanos.div_euclid(NANOS_PER_SECOND),
        nanos: nanos.rem_euclid(NANOS_PER_SECOND) as u32,
    }
}

fn decode_partial(mut message: &[u8]) -> Option<Partial> {
    let mut partial = Partial::default();
    while !message.is_empty() {
        match take_field(&mut message)? {
            (1, Value::Number(last)) => partial.last = last != 0,
            (2, Value::Bytes(id)) => partial.id = String::from_utf8_lossy(id).into_owned(),
            (3, Value::Number(ordinal)) => partial.ordinal = ordinal as i32,
            _ => {}
        }
    }
    Some(partial)
}

fn decode_attr(mut message: &[u8]) -> Option<(String, String)> {
    let mut attr = (String::new(), String::new());
    while !message.is_empty() {
        match take_field(&mut message)? {
            (1, Value::Bytes(key)) => attr.0 = String::from_utf8_lossy(key).into_owned(),
            (2, Value::Bytes(value)) => attr.1 = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    Some(attr)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Skipped,
}

fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_varint(message)?;
    let value = match tag & 7 {
        WIRE_VARINT => Value::Number(take_varint(message)?),
        WIRE_BYTES => {
            let length = usize::try_from(take_varint(message)?).ok()?;
            Value::Bytes(take_bytes(message, length)?)
        }
        WIRE_FIXED64 => skip(message, 8)?,
        WIRE_FIXED32 => skip(message, 4)?,
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn skip<'a>(message: &mut &'a [u8], count: usize) -> Option<Value<'a>> {
    take_bytes(message, count).map(|_| Value::Skipped)
}

fn take_bytes<'a>(message: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(count)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp { seconds: 1, nanos: 5 };

    fn encode(line: &[u8], partial: Option<&Partial>, attrs: &[(&str, &str)]) -> Vec<u8> {
        let attrs: Vec<_> = attrs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut out = Vec::new();
        Encoder::new(&attrs).append(Stream::Stderr, line, partial, TIME, &mut out);
        out
    }

    #[test]
    fn bytes_are_docker_s() {
        // By hand from entry.proto: field tags 0a 10 1a, time 1000000005 as varint 85 94 eb dc 03.
        let message = b"\x0a\x06stderr\x10\x85\x94\xeb\xdc\x03\x1a\x02hi";
        let mut want = vec![0, 0, 0, message.len() as u8];
        want.extend_from_slice(message);
        want.extend_from_slice(&[0, 0, 0, message.len() as u8]);
        assert_eq!(encode(b"hi", None, &[]), want);
    }

    #[test]
    fn partial_and_attrs_are_docker_s() {
        let partial = Partial { last: true, id: "ab".into(), ordinal: 3 };
        let got = encode(b"", Some(&partial), &[("z", "1"), ("a", "")]);
        let mut message = b"\x0a\x06stderr\x10\x85\x94\xeb\xdc\x03\x20\x01".to_vec();
        message.extend_from_slice(b"\x2a\x08\x08\x01\x12\x02ab\x18\x03");
        message.extend_from_slice(b"\x32\x03\x0a\x01a\x32\x06\x0a\x01z\x12\x011");
        assert_eq!(got[4..got.len() - 4], message);
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let partial = Partial { last: false, id: "id".into(), ordinal: 1 };
        for partial in [None, Some(partial)] {
            let bytes = encode(b"text", partial.as_ref(), &[("k", "v")]);
            assert_eq!(frame_at(&bytes), Frame::Whole(bytes.len()));
            let mut got = Decoded::default();
            decode(&bytes[4..bytes.len() - 4], &mut got).unwrap();
            assert_eq!((got.stream, got.time), (Some(Stream::Stderr), Some(TIME)));
            assert_eq!(got.line, if partial.is_some() { &b"text"[..] } else { b"text\n" });
            assert_eq!(got.partial, partial);
            assert_eq!(got.attrs, [("k".to_string(), "v".to_string())]);
        }
    }

    #[test]
    fn torn_and_damaged_frames_are_seen() {
        let bytes = encode(b"text", None, &[]);
        for cut in 0..bytes.len() {
            assert_eq!(frame_at(&bytes[..cut]), Frame::Incomplete);
        }
        let mut bad = bytes.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(frame_at(&bad), Frame::Damaged);
        assert_eq!(frame_at(&[0xff; 16]), Frame::Damaged);
        for junk in [&b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x0b", b"\x1a\x05ab", b"\x10"] {
            assert!(decode(junk, &mut Decoded::default()).is_none());
        }
    }
}
