//! JSON as Go prints it: indented, and as values of templates.

use gotmpl::Value as Template;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// The key under which a template's object keeps the order of its keys, where that is not the alphabet's. No
/// template can name it.
const ORDER: &str = " order";
/// The key that marks the row of a list, whose JSON Go writes with HTML escaped.
pub(crate) const ROW: &str = " row";
/// The key under which a row keeps its labels for `.Label`.
pub(crate) const LABELS: &str = " labels";

/// A JSON value as a template's value. Objects of structs keep their order for `json`; maps, which Go sorts,
/// need none.
pub(crate) fn to_template(value: &Ordered) -> Template {
    match value {
        Ordered::Plain(Value::Null) => Template::Nil,
        Ordered::Plain(Value::Bool(on)) => Template::Bool(*on),
        Ordered::Plain(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Template::Int(n),
            (None, Some(n)) => Template::Uint(n),
            _ => Template::Float(number.as_f64().unwrap_or(0.0)),
        },
        Ordered::Plain(Value::String(text)) => Template::String(Arc::from(text.as_str())),
        Ordered::Plain(_) | Ordered::Absent => Template::Nil,
        Ordered::List(items) => Template::List(items.iter().map(to_template).collect()),
        Ordered::Object(entries) => {
            let mut map: BTreeMap<Arc<str>, Template> =
                entries.iter().map(|(key, value)| (Arc::from(key.as_str()), to_template(value))).collect();
            let has_absent = entries.iter().any(|(_, value)| *value == Ordered::Absent);
            if has_absent || !entries.is_sorted_by(|a, b| a.0 <= b.0) {
                let there = entries.iter().filter(|(_, value)| *value != Ordered::Absent);
                let order = there.map(|(key, _)| Template::String(Arc::from(key.as_str())));
                map.insert(Arc::from(ORDER), Template::List(order.collect()));
            }
            Template::Map(Arc::new(map))
        }
    }
}

/// A struct of lists of rows, its fields in their order.
pub(crate) fn of_rows<const N: usize>(fields: [(&'static str, Vec<Template>); N]) -> Template {
    let order = fields.iter().map(|(name, _)| Template::String(Arc::from(*name))).collect();
    let lists = fields.into_iter().map(|(name, rows)| (Arc::from(name), Template::List(rows.into())));
    let mut map: BTreeMap<Arc<str>, Template> = lists.collect();
    map.insert(Arc::from(ORDER), Template::List(order));
    Template::Map(Arc::new(map))
}

/// JSON whose objects keep the order they came in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ordered {
    /// Neither list nor object.
    Plain(Value),
    List(Vec<Ordered>),
    Object(Vec<(String, Ordered)>),
    /// A field that JSON left out: null for templates, nothing for `json`.
    Absent,
}

impl Ordered {
    /// Reads a text.
    ///
    /// # Errors
    /// When it is no JSON.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The value of a key.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Object(entries) => entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Adds what Go's type has a field for and JSON leaves out when it is empty.
    pub(crate) fn add_missing(&mut self, path: &[&str]) {
        match (self, path) {
            (Self::Object(entries), [last]) if !entries.iter().any(|(name, _)| name == last) => {
                entries.push(((*last).to_owned(), Self::Absent));
            }
            (object, [first, rest @ ..]) if !rest.is_empty() => {
                if let Some(inner) = object.get_mut(first) {
                    inner.add_missing(rest);
                }
            }
            _ => {}
        }
    }
}

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> serde::de::Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Plain(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Ordered, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Ordered::List(list))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Ordered::Object(entries))
    }
}

/// A template's value as compact JSON (the template function `json`).
pub(crate) fn of_template(value: &Template) -> String {
    let mut out = String::new();
    write_template(value, &mut out);
    out
}

fn write_template(value: &Template, out: &mut String) {
    match value {
        Template::Bool(on) => out.push_str(if *on { "true" } else { "false" }),
        Template::Int(number) => out.push_str(&number.to_string()),
        Template::Uint(number) => out.push_str(&number.to_string()),
        Template::Float(number) => out.push_str(&Value::from(*number).to_string()),
        Template::String(text) => write_string(text, out),
        Template::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_template(item, out);
            }
            out.push(']');
        }
        Template::Map(map) => write_map(map, out),
        _ => out.push_str("null"),
    }
}

fn write_map(map: &BTreeMap<Arc<str>, Template>, out: &mut String) {
    let ordered: Vec<Arc<str>> = match map.get(ORDER) {
        Some(Template::List(keys)) => keys.iter().filter_map(|k| k.as_str().map(Arc::from)).collect(),
        _ => map.keys().filter(|key| !key.starts_with(' ')).cloned().collect(),
    };
    let start = out.len();
    out.push('{');
    let mut first = true;
    for (key, value) in ordered.iter().filter_map(|key| Some((key, map.get(key)?))) {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
        write_template(value, out);
    }
    out.push('}');
    if map.contains_key(ROW) {
        let escaped = out[start..].replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        out.replace_range(start.., &escaped);
    }
}

/// A string as Go writes it when HTML is not escaped.
pub(crate) fn write_string(text: &str, out: &mut String) {
    let quoted = Value::from(text).to_string();
    if quoted.contains(['\u{2028}', '\u{2029}']) {
        out.push_str(&quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
    } else {
        out.push_str(&quoted);
    }
}

/// JSON texts as one list, indented by four spaces as Go's `json.Indent` does.
pub(crate) fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = text.chars().filter(|c| !c.is_control()).peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            ' ' => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if_eq(&' ').is_some() {}
                let close = if c == '{' { '}' } else { ']' };
                if chars.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_as_go_does() {
        let text = r#"[{"b":1,"a":{},"c":[],"d":[1,"x{,}\"y"],"e": { "f" : null}}]"#;
        let indented = "[\n    {\n        \"b\": 1,\n        \"a\": {},\n        \"c\": [],\n        \"d\": [\n            1,\n            \"x{,}\\\"y\"\n        ],\n        \"e\": {\n            \"f\": null\n        }\n    }\n]";
        assert_eq!(indent(text), indented);
    }

    #[test]
    fn objects_keep_their_order() {
        let text = r#"{"Status":"running","Pid":1,"A":{"x":"<a>","y":[1.5,true,null]}}"#;
        let value = to_template(&Ordered::parse(text.as_bytes()).unwrap());
        assert_eq!(of_template(&value), text);
    }

    #[test]
    fn fields_that_go_would_have_are_added() {
        let mut value = Ordered::parse(br#"{"State":{"Status":"x"}}"#).unwrap();
        value.add_missing(&["State", "Health"]);
        value.add_missing(&["Nope", "Health"]);
        assert_eq!(of_template(&to_template(&value)), r#"{"State":{"Status":"x"}}"#);
        let Template::Map(map) = to_template(&value) else { panic!("no map") };
        assert_eq!(map["State"].field("Health"), Some(&Template::Nil));
    }
}
