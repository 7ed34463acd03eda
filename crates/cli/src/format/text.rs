//! Texts in cells: cut, quoted, counted in columns of a terminal; times.

use jiff::{Timestamp, tz::TimeZone};

/// How many columns a character takes: 2 for East Asian wide ones, 0 for combining ones.
pub(crate) fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0x33ff
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xa000..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How many columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The text, with `…` at its end where it would take more than `max` columns.
pub(crate) fn ellipsis(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut room = max.saturating_sub(1);
    let mut cut = String::new();
    for c in text.chars() {
        let Some(left) = room.checked_sub(char_width(c)) else { break };
        room = left;
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// The first 12 characters of an id, without `sha256:`.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// Go's `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || c == '\u{feff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Seconds since the epoch as `2006-01-02 15:04:05 -0700 MST` in local time (Go: `Time.String`).
pub(crate) fn local_time(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return String::new() };
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// A time as Go's `Time.String` writes it in UTC, with fractions of a second.
pub(crate) fn utc_time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

/// Seconds since the epoch as RFC 3339 in local time.
pub(crate) fn local_rfc3339(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return String::new() };
    let text = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    text.strip_suffix("+00:00").map_or(text.clone(), |utc| format!("{utc}Z"))
}

/// Nanoseconds since the epoch as RFC 3339 in local time with nine digits.
pub(crate) fn local_nanos(nanos: i128) -> String {
    let Ok(time) = Timestamp::from_nanosecond(nanos) else { return String::new() };
    let text = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string();
    text.strip_suffix("+00:00").map_or(text.clone(), |utc| format!("{utc}Z"))
}

/// How long ago a time is, as people say it.
pub(crate) fn ago(seconds: i64) -> String {
    let now = Timestamp::now().as_second();
    format!("{} ago", crate::opts::duration::human(now - seconds))
}

/// `key=value,key=value`, sorted.
pub(crate) fn labels(map: &wharf_api::StringMap) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Sorts texts so that numbers in them count as numbers.
pub(crate) fn natural_order(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let (left, right) = (digits(a), digits(b));
        if left > 0 && right > 0 {
            let number = |s: &str, n: usize| s[..n].trim_start_matches('0').to_owned();
            let (x, y) = (number(a, left), number(b, right));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y)).then(left.cmp(&right));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[left..], &b[right..]);
            continue;
        }
        match (a.chars().next(), b.chars().next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]),
            (x, y) => return x.cmp(&y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_and_quoted() {
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(ellipsis("docker-entrypoint.sh nginx", 20), "docker-entrypoint.s…");
        assert_eq!(ellipsis("世界世界", 5), "世界…");
        assert_eq!(quote("sh -c \"echo\"\t\u{1}…"), "\"sh -c \\\"echo\\\"\\t\\x01…\"");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }

    #[test]
    fn numbers_in_texts_count() {
        let mut list = ["8080/tcp", "80/tcp", "443/tcp", "80/udp"];
        list.sort_by(|a, b| natural_order(a, b));
        assert_eq!(list, ["80/tcp", "80/udp", "443/tcp", "8080/tcp"]);
    }
}
