//! A deserializer over a JSON value whose syntax has been checked, with Go's rules for fields.

use super::{Error, TypeError, scan};
use serde::{
    Deserializer,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};
use std::borrow::Cow;

/// One JSON value: its text, without white space around it.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    text: &'a [u8],
}

/// What stands for a null where something with elements is wanted.
const EMPTY: Value<'static> = Value { text: b"[]" };

impl<'a> Value<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text }
    }

    fn is_null(self) -> bool {
        self.text == b"null"
    }

    /// The error of this value where `wanted` was expected.
    fn mismatch(self, wanted: &str) -> Error {
        let value = match self.text[0] {
            b'"' => "string".to_owned(),
            b'{' => "object".to_owned(),
            b'[' => "array".to_owned(),
            b't' | b'f' => "bool".to_owned(),
            _ => "number".to_owned(),
        };
        Error::Type(Box::new(TypeError { value, wanted: wanted.to_owned(), within: None, path: Vec::new() }))
    }

    /// As [`Self::mismatch`], with a number's digits: it is a number, but not one that fits.
    fn misfit(self, wanted: &str) -> Error {
        let mut error = self.mismatch(wanted);
        if let Error::Type(e) = &mut error
            && e.value == "number"
        {
            e.value = format!("number {}", String::from_utf8_lossy(self.text));
        }
        error
    }

    /// The number, read by `T`'s own parser, which takes neither fractions nor what is out of range.
    /// Null is zero here and below: Go leaves the field as it is.
    fn number<T: std::str::FromStr>(self, wanted: &str) -> Result<T, Error> {
        let text = if self.is_null() { b"0" } else { self.text };
        match text[0] {
            b'-' | b'0'..=b'9' => {
                std::str::from_utf8(text).ok().and_then(|s| s.parse().ok()).ok_or_else(|| self.misfit(wanted))
            }
            _ => Err(self.mismatch(wanted)),
        }
    }

    fn string(self) -> Result<Cow<'a, str>, Error> {
        match self.text[0] {
            b'"' => Ok(unquote(&self.text[1..self.text.len() - 1])),
            b'n' => Ok(Cow::Borrowed("")),
            _ => Err(self.mismatch("string")),
        }
    }

    fn elements(self) -> Elements<'a> {
        Elements { text: self.text, at: 1 }
    }
}

/// The elements of an array or the members of an object, one after the other.
struct Elements<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Elements<'a> {
    /// Skips white space and separators; false at the end.
    fn advance(&mut self) -> bool {
        while matches!(self.text[self.at], b' ' | b'\t' | b'\r' | b'\n' | b',' | b':') {
            self.at += 1;
        }
        !matches!(self.text[self.at], b'}' | b']')
    }

    fn take(&mut self) -> Option<Value<'a>> {
        if !self.advance() {
            return None;
        }
        let start = self.at;
        self.at = scan::value_end(self.text, start);
        Some(Value::new(&self.text[start..self.at]))
    }

    fn member(&mut self) -> Option<(Cow<'a, str>, Value<'a>)> {
        let key = self.take()?;
        let key = unquote(&key.text[1..key.text.len() - 1]);
        Some((key, self.take()?))
    }
}

/// A string without its quotes, escapes resolved; what is no Unicode becomes U+FFFD.
fn unquote(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        if raw[i] != b'\\' {
            out.push(raw[i]);
            i += 1;
            continue;
        }
        let c = match raw[i + 1] {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, used) = unicode_escape(&raw[i..]);
                i += used - 2;
                c
            }
            other => char::from(other),
        };
        i += 2;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The character of a `\uXXXX` at the start of `raw`, a surrogate pair taken together, and its length.
fn unicode_escape(raw: &[u8]) -> (char, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) => {
            let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or('\u{fffd}'), 12)
        }
        (Some(code), _) => (char::from_u32(code).unwrap_or('\u{fffd}'), 6),
        (None, _) => ('\u{fffd}', 6),
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $go:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.number::<$type>($go)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    numbers! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
        deserialize_f32 visit_f32 f32, "float32";
        deserialize_f64 visit_f64 f64, "float64";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text[0] {
            b'"' => self.deserialize_str(visitor),
            b'{' => self.deserialize_map(visitor),
            b'[' => self.deserialize_seq(visitor),
            b't' | b'f' => self.deserialize_bool(visitor),
            b'n' => visitor.visit_unit(),
            _ => {
                let text = std::str::from_utf8(self.text).unwrap_or_default();
                match (text.parse::<u64>(), text.parse::<i64>()) {
                    (Ok(n), _) => visitor.visit_u64(n),
                    (_, Ok(n)) => visitor.visit_i64(n),
                    _ => visitor.visit_f64(self.number("float64")?),
                }
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text {
            b"true" => visitor.visit_bool(true),
            b"false" | b"null" => visitor.visit_bool(false),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.string()? {
            Cow::Borrowed(s) => visitor.visit_borrowed_str(s),
            Cow::Owned(s) => visitor.visit_string(s),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text[0] {
            b'[' => visitor.visit_seq(Sequence(self.elements())),
            b'n' => visitor.visit_seq(Sequence(EMPTY.elements())),
            _ => Err(self.mismatch("[]string")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text[0] {
            b'{' => visitor.visit_map(Members { elements: self.elements(), value: None }),
            b'n' => visitor.visit_map(Members { elements: EMPTY.elements(), value: None }),
            _ => Err(self.mismatch("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.text[0] {
            b'{' => visitor.visit_map(Fields::new(name, fields, self.elements())),
            b'n' => visitor.visit_map(Fields::new(name, fields, EMPTY.elements())),
            _ => Err(self.mismatch(name)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let name = self.string()?;
        let variant: StrDeserializer<'_, Error> = name.as_ref().into_deserializer();
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

struct Sequence<'a>(Elements<'a>);

impl<'de> SeqAccess<'de> for Sequence<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match self.0.take() {
            Some(value) => seed.deserialize(value).map(Some),
            None => Ok(None),
        }
    }
}

/// The members of an object read as a map: keys as they are.
struct Members<'a> {
    elements: Elements<'a>,
    value: Option<Value<'a>>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(key) = self.elements.take() else { return Ok(None) };
        self.value = self.elements.take();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(Error::UnexpectedEnd),
        }
    }
}

/// The members of an object read as a struct: known fields only, each once, none that is null.
struct Fields<'a> {
    name: &'static str,
    members: std::vec::IntoIter<(&'static str, Value<'a>)>,
    current: Option<(&'static str, Value<'a>)>,
}

impl<'a> Fields<'a> {
    fn new(name: &'static str, fields: &'static [&'static str], mut elements: Elements<'a>) -> Self {
        let mut members: Vec<(&'static str, Value<'a>)> = Vec::new();
        while let Some((key, value)) = elements.member() {
            let exact = fields.iter().find(|f| **f == key);
            let Some(field) = exact.or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(&key))) else {
                continue;
            };
            if value.is_null() {
                continue;
            }
            match members.iter_mut().find(|(known, _)| known == field) {
                Some(known) => known.1 = value,
                None => members.push((field, value)),
            }
        }
        Self { name, members: members.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.current = self.members.next();
        let Some((field, _)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = field.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let Some((field, value)) = self.current.take() else { return Err(Error::UnexpectedEnd) };
        seed.deserialize(value).map_err(|mut error| {
            if let Error::Type(e) = &mut error {
                e.within.get_or_insert(self.name);
                e.path.insert(0, field);
            }
            error
        })
    }
}
