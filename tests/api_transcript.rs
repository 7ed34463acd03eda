//! A recorded conversation with a real dockerd 29, held with our daemon.
//!
//! `data/transcript.jsonl` has a request a line and what dockerd answered at API 1.41, 1.47 and 1.55: status, content
//! type, error text with ids masked, the *shape* of a JSON body (each key with its value's type; null, [] and {}
//! are different types: Go clients see the difference), and selected values. Requests without a name only set the
//! stage. What differs on purpose, or is not built, stands in [`DIFFERENT`] with its reason and is counted.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, path::Path};
use wharf_testkit::{Daemon, Response, busybox};

/// Exchanges that are known to differ, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("system/too new version", "we serve up to 1.55, that dockerd 1.56"),
    ("system/too old version", "we serve from 1.24 on, that dockerd from 1.40"),
];

struct Exchange {
    name: String,
    row: Value,
}

#[test]
fn the_daemon_answers_as_dockerd_did() -> Result<()> {
    let mut wrong = Vec::new();
    for version in ["1.41", "1.47", "1.55"] {
        wrong.extend(replay(version)?);
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn replay(version: &str) -> Result<Vec<String>> {
    let daemon = Daemon::start()?;
    let image = busybox()?;
    daemon.load(&image)?;
    let (mut same, mut different, mut wrong) = (0, 0, Vec::new());
    let mut exec = String::new();
    for exchange in read()? {
        let answer = send(&daemon, version, &exchange.row, &image.bytes, &exec)?;
        if exchange.row["path"].as_str().is_some_and(|p| p.ends_with("/exec")) {
            exec = answer.json()["Id"].as_str().unwrap_or("none").to_owned();
        }
        let Some(want) = exchange.row["want"].get(version) else { continue };
        let found = differences(&exchange.row, &on_this_host(want), &answer);
        if DIFFERENT.iter().any(|(name, _)| *name == exchange.name) {
            different += 1;
        } else if found.is_empty() {
            same += 1;
        } else {
            wrong.push(format!("{version} {}: {}", exchange.name, found.join("; ")));
        }
    }
    println!("API {version}: {same} exchanges the same, {different} known to differ, {} wrong", wrong.len());
    daemon.stop()?;
    Ok(wrong)
}

fn read() -> Result<Vec<Exchange>> {
    let lines = include_str!("data/transcript.jsonl").lines();
    lines
        .map(|line| {
            let row: Value = serde_json::from_str(line)?;
            let name = format!("{}/{}", text(&row["area"]), text(&row["name"]));
            Ok(Exchange { name, row })
        })
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn send(daemon: &Daemon, version: &str, row: &Value, image: &[u8], exec: &str) -> Result<Response> {
    let versioned = row["versioned"] == true;
    let api = daemon.api().at(&if versioned { format!("v{version}") } else { String::new() });
    let path = text(&row["path"]).replace("{exec}", exec);
    let body = match (&row["json"], &row["body"]) {
        _ if row["image"] == true => image.to_vec(),
        (Value::Null, Value::Null) => Vec::new(),
        (Value::Null, encoded) => decode_base64(text(encoded)),
        (json, _) => serde_json::to_vec(json)?,
    };
    let headers: Vec<(&str, &str)> =
        row["headers"].as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), text(v))).collect();
    api.request(text(&row["method"]), &path, text(&row["type"]), &headers, &body)
        .with_context(|| format!("{} {path}", text(&row["method"])))
}

fn differences(row: &Value, want: &Value, answer: &Response) -> Vec<String> {
    let mut found = Vec::new();
    let content_type = answer.header("content-type").unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default();
    let mut compare = |what: &str, want: &Value, got: Value| {
        if !want.is_null() && *want != got {
            found.push(format!("{what}: want {want} got {got}"));
        }
    };
    compare("status", &want["status"], json!(answer.status));
    compare("type", &want["type"], json!(content_type));
    let got = answer.json();
    compare("error", &want["error"], json!(error_text(text(&got["message"]))));
    if !want["text"].is_null() {
        compare("text", &want["text"], json!(mask(&String::from_utf8_lossy(&answer.body))));
    }
    for (path, value) in want["values"].as_object().into_iter().flatten() {
        compare(path, value, serde_json::from_str(&mask(&at(&got, path).to_string())).unwrap_or_default());
    }
    if !want["shape"].is_null() && answer.status < 400 {
        let mut kept = got;
        for key in row["drop"].as_array().into_iter().flatten() {
            if let Some(object) = kept.as_object_mut() {
                object.remove(text(key));
            }
        }
        shape_differences(&want["shape"], &shape(&kept), "", &mut found);
    }
    found
}

/// What that dockerd, whose host had cgroup v1, would have answered here (source: moby `daemon/stats_unix.go`:
/// version 2 counts no single processors; `daemon/daemon_unix.go`, adaptContainerSettings).
fn on_this_host(want: &Value) -> Value {
    let mut want = want.clone();
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return want;
    }
    if let Some(mode) = want.pointer_mut("/values/HostConfig.CgroupnsMode") {
        *mode = json!("private");
    }
    for stats in ["cpu_stats", "precpu_stats"] {
        let usage = want.pointer_mut(&format!("/shape/{stats}/cpu_usage"));
        if let Some(usage) = usage.and_then(Value::as_object_mut) {
            usage.remove("percpu_usage");
        }
    }
    want
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(value, |v, part| part.parse::<usize>().ok().and_then(|i| v.get(i)).unwrap_or(&v[part]))
}

/// The value with every leaf replaced by its type; a list becomes the set of its elements' shapes.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(list) if list.is_empty() => json!(["empty"]),
        Value::Array(list) => {
            let shapes: BTreeSet<String> = list.iter().map(|v| shape(v).to_string()).collect();
            shapes.iter().map(|s| serde_json::from_str::<Value>(s).unwrap_or_default()).collect()
        }
        Value::Object(map) if map.is_empty() => json!({"": "empty"}),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| (mask(k), shape(v))).collect::<Map<_, _>>())
        }
    }
}

fn shape_differences(want: &Value, got: &Value, path: &str, found: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for key in want.keys().chain(got.keys().filter(|k| !want.contains_key(*k))) {
                let path = format!("{path}.{key}");
                match (want.get(key), got.get(key)) {
                    (Some(_), None) => found.push(format!("-{path}")),
                    (None, _) => found.push(format!("+{path}")),
                    (Some(want), Some(got)) => shape_differences(want, got, &path, found),
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (want, got) in want.iter().zip(got) {
                shape_differences(want, got, &format!("{path}[]"), found);
            }
        }
        _ if want != got => found.push(format!("{path}: want {want} got {got}")),
        _ => {}
    }
}

/// Of a failed process start only the part that is not about one runtime's internals.
fn error_text(message: &str) -> String {
    let message = mask(message);
    if !message.contains("OCI runtime") {
        return message;
    }
    let rest = message.find("exec: \"").map_or("OCI runtime error", |at| &message[at..]);
    format!("... {}", rest.strip_suffix(": unknown").unwrap_or(rest))
}

/// Ids, digests and times, replaced by their names.
fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if let Some(length) = time_length(rest) {
            out.push_str("<time>");
            rest = &rest[length..];
        } else if word > 0 {
            let hex = rest[..word].bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            match (hex, word) {
                (true, 64) if out.ends_with("sha256:") => out.push_str("<digest>"),
                (true, 64) => out.push_str("<id>"),
                (true, 12) => out.push_str("<id12>"),
                _ => out.push_str(&rest[..word]),
            }
            rest = &rest[word..];
        } else {
            let c = rest.chars().next().unwrap_or_default();
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// How long the RFC 3339 time at the beginning is, if there is one.
fn time_length(text: &str) -> Option<usize> {
    let pattern = b"dddd-dd-ddT";
    let bytes = text.as_bytes();
    let date = bytes.len() > pattern.len()
        && pattern.iter().zip(bytes).all(|(p, b)| if *p == b'd' { b.is_ascii_digit() } else { p == b });
    let clock = pattern.len()
        + bytes
            .get(pattern.len()..)?
            .iter()
            .take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.'))
            .count();
    match bytes.get(clock)? {
        b'Z' if date => Some(clock + 1),
        b'+' | b'-' if date && bytes.len() >= clock + 6 => Some(clock + 6),
        _ => None,
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|d| *d == c)
    };
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for value in text.bytes().filter_map(digit) {
        bits = bits << 6 | u32::try_from(value).unwrap_or_default();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    out
}
