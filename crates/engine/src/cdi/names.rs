//! Names: `vendor/class=device` (source: CDI `pkg/parser`).

use std::ops::Range;

/// Splits `vendor/class`; without a slash there is no vendor.
pub(super) fn split_kind(kind: &str) -> (&str, &str) {
    match kind.split_once('/') {
        Some((vendor, class)) if !vendor.is_empty() && !class.is_empty() => (vendor, class),
        _ => ("", kind),
    }
}

pub(super) fn check_vendor(name: &str) -> Result<(), String> {
    vendor_or_class(name).map_err(|why| format!("invalid vendor. {why}"))
}

pub(super) fn check_class(name: &str) -> Result<(), String> {
    vendor_or_class(name).map_err(|why| format!("invalid class. {why}"))
}

fn vendor_or_class(name: &str) -> Result<(), String> {
    let Some(first) = name.bytes().next() else { return Err("empty name".into()) };
    if !first.is_ascii_alphabetic() {
        return Err(format!("{name:?}, should start with letter"));
    }
    if let Some(c) = stranger(name, "_-.") {
        return Err(format!("invalid character '{c}' in name {name:?}"));
    }
    match ends_well(name) {
        true => Ok(()),
        false => Err(format!("{name:?}, should end with a letter or digit")),
    }
}

pub(super) fn check_device(name: &str) -> Result<(), String> {
    let Some(first) = name.bytes().next() else { return Err("invalid (empty) device name".into()) };
    if !first.is_ascii_alphanumeric() {
        return Err(format!("invalid class {name:?}, should start with a letter or digit"));
    }
    if let Some(c) = stranger(name, "_-.:") {
        return Err(format!("invalid character '{c}' in device name {name:?}"));
    }
    match ends_well(name) {
        true => Ok(()),
        false => Err(format!("invalid name {name:?}, should end with a letter or digit")),
    }
}

/// A character between the first and the last that a name must not have.
fn stranger(name: &str, besides: &str) -> Option<char> {
    let inner: Range<usize> = 1..name.char_indices().last().map_or(0, |(at, _)| at).max(1);
    name.get(inner)?.chars().find(|c| !c.is_ascii_alphanumeric() && !besides.contains(*c))
}

fn ends_well(name: &str) -> bool {
    name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_in_go() {
        assert_eq!(split_kind("vendor.com/gpu"), ("vendor.com", "gpu"));
        assert_eq!(split_kind("gpu"), ("", "gpu"));
        assert_eq!(check_vendor("vendor.com"), Ok(()));
        assert_eq!(check_vendor("").unwrap_err(), "invalid vendor. empty name");
        assert_eq!(check_vendor("1a").unwrap_err(), "invalid vendor. \"1a\", should start with letter");
        assert_eq!(check_class("a!b").unwrap_err(), "invalid class. invalid character '!' in name \"a!b\"");
        assert_eq!(
            check_class("a-").unwrap_err(),
            "invalid class. \"a-\", should end with a letter or digit"
        );
        assert!(check_device("0").is_ok() && check_device("0:1").is_ok() && check_device("aé").is_err());
        assert_eq!(check_device("").unwrap_err(), "invalid (empty) device name");
    }
}
