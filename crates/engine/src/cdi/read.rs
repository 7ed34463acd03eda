//! Files into specifications. Both kinds are read as YAML, of which JSON is a part.

use super::spec::Spec;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use std::{collections::HashMap, io::Read, path::Path};

/// More than any specification needs; a larger file is none.
const MOST_BYTES: u64 = 16 << 20;
/// How deep a document may be nested: a specification is seven levels deep.
const DEEPEST: usize = 32;
/// How many values a document may have, those that aliases repeat among them.
const MOST_VALUES: usize = 100_000;

/// Reads a file.
///
/// # Errors
/// In the words of CDI's library where it has some.
pub(super) fn file(path: &Path) -> Result<Spec, String> {
    let failed = |why: &dyn std::fmt::Display| format!("failed to read CDI Spec {path:?}: {why}");
    let mut text = String::new();
    let opened = std::fs::File::open(path).map_err(|e| failed(&crate::error::words(&e)))?;
    opened.take(MOST_BYTES).read_to_string(&mut text).map_err(|e| failed(&e))?;
    let document = yaml(&text)
        .map_err(|why| format!("failed to parse CDI Spec {path:?}: failed to unmarshal CDI Spec: {why}"))?;
    if document.is_null() {
        return Err(format!("failed to parse CDI Spec {path:?}, no Spec data"));
    }
    serde_json::from_value(document)
        .map_err(|why| format!("failed to parse CDI Spec {path:?}: failed to unmarshal CDI Spec: {why}"))
}

/// The first document as JSON.
fn yaml(text: &str) -> Result<Value, String> {
    let mut document = Document::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| e.to_string())?;
        if event == Event::DocumentEnd {
            break;
        }
        document.take(event)?;
    }
    Ok(document.root.unwrap_or_default())
}

/// A document as far as it is read.
#[derive(Default)]
struct Document {
    /// The lists and maps that are not over, the outermost first.
    open: Vec<Open>,
    /// What has a name to be repeated by.
    anchors: HashMap<usize, Value>,
    root: Option<Value>,
    values: usize,
}

/// A list or map that is not over.
struct Open {
    value: Value,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<String>,
}

impl Document {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.put(scalar(&text, style, tag.is_some()), anchor),
            Event::SequenceStart(anchor, _) => self.begin(Value::Array(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.begin(Value::Object(Map::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.put(done.value, done.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias of nothing")?;
                self.put(value, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if self.open.len() == DEEPEST {
            return Err("the document is nested too deeply".into());
        }
        self.open.push(Open { value, anchor, key: None });
        Ok(())
    }

    /// A whole value belongs to what is open.
    fn put(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
            self.count(&value)?;
        }
        self.count(&value)?;
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open { value: Value::Array(list), .. }) => list.push(value),
            Some(Open { value: Value::Object(map), key, .. }) => match key.take() {
                None => *key = Some(key_of(value)),
                Some(name) if map.contains_key(&name) => {
                    return Err(format!("key {name:?} already set in map"));
                }
                Some(name) => drop(map.insert(name, value)),
            },
            Some(_) => {}
        }
        Ok(())
    }

    fn count(&mut self, value: &Value) -> Result<(), String> {
        self.values += size(value);
        if self.values > MOST_VALUES { Err("the document has too many values".into()) } else { Ok(()) }
    }
}

/// How many values a value is made of.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn key_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A scalar by YAML 1.1, as Go's library has it: a leading zero means octal.
fn scalar(text: &str, style: ScalarStyle, tagged: bool) -> Value {
    if style != ScalarStyle::Plain || tagged {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let digits = text.trim_start_matches(['-', '+']);
    let radix = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix).filter(|digits| !digits.is_empty())?;
        i64::from_str_radix(digits, radix).ok()
    };
    let number =
        radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or_else(|| radix("0", 8));
    if let Some(number) = number.or_else(|| text.parse().ok()) {
        return Value::from(number);
    }
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let float = text.parse::<f64>().ok().filter(|_| is_number).and_then(Number::from_f64);
    float.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_read_as_go_reads_it() {
        let text = "---\ncdiVersion: 0.5.0\nkind: \"v.com/c\"\ndevices:\n- name: 0\n  containerEdits:\n    env: [A=1, 'B=0660']\n    deviceNodes:\n    - path: /dev/x\n      fileMode: 0660\n      minor: 7\n      hostPath: ~\n";
        assert_eq!(
            yaml(text).unwrap(),
            json!({"cdiVersion": "0.5.0", "kind": "v.com/c", "devices": [{"name": 0, "containerEdits": {
                "env": ["A=1", "B=0660"],
                "deviceNodes": [{"path": "/dev/x", "fileMode": 0o660, "minor": 7, "hostPath": null}]}}]})
        );
        let spec: Spec = serde_json::from_value(yaml(text).unwrap()).unwrap();
        assert_eq!((spec.devices[0].name.as_str(), spec.cdi_version.as_str()), ("0", "0.5.0"));
        assert!(yaml("a: [").is_err() && yaml("").unwrap().is_null());
        assert_eq!(
            yaml(r#"{"a":{"b":[1,true,null,"x"]}}"#).unwrap(),
            json!({"a": {"b": [1, true, null, "x"]}})
        );
        assert!(serde_json::from_value::<Spec>(json!({"nosuch": 1})).is_err());
    }

    #[test]
    fn bombs_do_not_go_off() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        assert!(yaml(&deep).is_err());
        let mut laughs = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (before, name) in "abcdefgh".chars().zip("bcdefghi".chars()) {
            laughs += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 10].join(","));
        }
        assert!(yaml(&laughs).is_err());
    }
}
