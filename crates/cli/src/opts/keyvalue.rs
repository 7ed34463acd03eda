//! `key=value` pairs and the files they are read from.

use std::{collections::BTreeMap, fs};

/// Pairs as a map; a key without `=` gets the empty value, the last of equal keys counts.
pub(crate) fn map(pairs: &[String]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (pair.clone(), String::new()),
        })
        .collect()
}

/// The lines of files, then the given pairs.
///
/// # Errors
/// When a file cannot be read or a line is malformed.
pub(crate) fn with_files(files: &[String], pairs: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        // A key without value has no meaning in a file of labels, and Docker leaves it out.
        all.extend(read_file(file)?.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))));
    }
    all.extend_from_slice(pairs);
    Ok(all)
}

/// The lines of one file: comments and empty lines left out, white space before the key cut off
/// (source: docker/cli `pkg/kvfile`).
///
/// # Errors
/// In Docker's words.
pub(crate) fn read_file(path: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let raw = fs::read(path).map_err(|e| format!("open {path}: {}", go_error(&e)))?;
    let text =
        String::from_utf8(raw).map_err(|_| format!("invalid env file ({path}): invalid utf8 bytes"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut pairs = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, None),
        };
        if key.contains([' ', '\t']) {
            return Err(format!("invalid env file ({path}): variable '{key}' contains whitespaces"));
        }
        if key.is_empty() {
            return Err(format!("invalid env file ({path}): no variable name on line '{line}'"));
        }
        pairs.push((key.to_owned(), value));
    }
    Ok(pairs)
}

/// The words of an error of a file, as Go writes them.
pub(crate) fn go_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// A label: `key` or `key=value`.
///
/// # Errors
/// When the key is empty.
pub(crate) fn check_label(text: &str) -> Result<(), String> {
    let key = text.split('=').next().unwrap_or_default().trim_start_matches([' ', '\t']);
    match key {
        "" => Err(format!("invalid label '{text}': empty name")),
        key if key.contains([' ', '\t']) => Err(format!("label '{key}' contains whitespaces")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_line_by_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let read = |text: &str| {
            fs::write(path, text).unwrap();
            read_file(path)
        };
        let pairs = read("# c\n\n  A=1\nB= two words \nC\nD=#x\r\n").unwrap();
        let pairs: Vec<(&str, Option<&str>)> =
            pairs.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(pairs, [("A", Some("1")), ("B", Some(" two words ")), ("C", None), ("D", Some("#x"))]);
        assert_eq!(
            read("A B=1").unwrap_err(),
            format!("invalid env file ({path}): variable 'A B' contains whitespaces")
        );
        assert_eq!(
            read("=x").unwrap_err(),
            format!("invalid env file ({path}): no variable name on line '=x'")
        );
        assert_eq!(read_file("/nope").unwrap_err(), "open /nope: no such file or directory");
    }

    #[test]
    fn labels_have_names() {
        assert!(check_label("a=b").is_ok() && check_label("a").is_ok());
        assert_eq!(check_label("=b").unwrap_err(), "invalid label '=b': empty name");
    }
}
