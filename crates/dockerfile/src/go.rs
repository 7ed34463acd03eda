//! Values as Go's `fmt` prints them: histories have them so.

use wharf_spec::{Healthcheck, duration};

/// `%q` of a list of strings.
pub(crate) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%q` of a string (source: Go `strconv.Quote`).
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `%+v` of a pointer to it.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "&{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.as_deref().unwrap_or_default().join(" "),
        duration::format(check.interval),
        duration::format(check.timeout),
        duration::format(check.start_period),
        duration::format(check.start_interval),
        check.retries
    )
}
