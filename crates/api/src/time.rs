//! Times as Go writes and reads them.

use crate::Error;
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Seconds from Go's zero time, `0001-01-01T00:00:00Z`, to the Unix epoch.
const ZERO_SECONDS: i64 = -62_135_596_800;

/// A point in time in Go's RFC3339Nano: fractions of a second without trailing zeros, always UTC. The
/// default is Go's zero time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

impl Time {
    /// Go's zero time, which stands for "never".
    pub const ZERO: Self = Self(Timestamp::constant(ZERO_SECONDS, 0));

    /// Now.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }

    /// Whether this is Go's zero time.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Seconds since the Unix epoch.
    pub fn unix(&self) -> i64 {
        self.0.as_second()
    }

    /// Nanoseconds since the Unix epoch, at the limits of 64 bits for years before 1678 and after 2262.
    pub fn unix_nanos(&self) -> i64 {
        let nanos = self.0.as_nanosecond();
        i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
    }

    /// The time of seconds and nanoseconds since the Unix epoch; `None` beyond the years that exist.
    pub fn from_unix(seconds: i64, nanos: i32) -> Option<Self> {
        Timestamp::new(seconds, nanos).ok().map(Self)
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<Timestamp> for Time {
    fn from(t: Timestamp) -> Self {
        Self(t)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Time {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        s.parse().map(Self).map_err(|e| Error::Time(format!("parsing time {s:?}: {e}")))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match String::deserialize(d)?.as_str() {
            "" => Ok(Self::ZERO),
            text => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// Reads `seconds` or `seconds.nanoseconds` since the Unix epoch; empty is `None`
/// (source: moby `daemon/internal/timestamp`, `ParseUnixTimestamp`).
///
/// # Errors
/// With Docker's text, such as `invalid timestamp "zz": invalid seconds "zz": invalid syntax`.
pub fn parse_unix(value: &str) -> Result<Option<Time>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    match unix(value) {
        Ok(time) => Ok(Some(time)),
        Err(why) => Err(Error::Time(format!("invalid timestamp {value:?}: {why}"))),
    }
}

fn unix(value: &str) -> Result<Time, String> {
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    let parsed = parse_int(seconds).map_err(|why| format!("invalid seconds {seconds:?}: {why}"))?;
    if fraction.len() > 20 {
        return Err(format!("invalid nanoseconds: length {} exceeds maximum 20", fraction.len()));
    }
    if let Some((at, c)) = fraction.bytes().enumerate().find(|(_, c)| !c.is_ascii_digit()) {
        return Err(format!("invalid nanoseconds: invalid character {:?} at position {at}", char::from(c)));
    }
    let nanos = format!("{fraction:0<9}").get(..9).and_then(|s| s.parse().ok()).unwrap_or(0);
    Time::from_unix(parsed, nanos).ok_or_else(|| format!("invalid seconds {seconds:?}: value out of range"))
}

/// Go's `strconv.ParseInt(raw, 10, 64)` with its reasons.
fn parse_int(raw: &str) -> Result<i64, &'static str> {
    let digits = raw.strip_prefix(['-', '+']).unwrap_or(raw);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    raw.parse().map_err(|_| "value out of range")
}

/// Reads a point in time as the `until` filters take it: a duration before `reference` (`1h30m`), a time or
/// date in RFC 3339's forms (in UTC unless it says otherwise), or seconds since the Unix epoch
/// (source: moby `daemon/internal/timestamp`, `Parse`).
///
/// # Errors
/// When it is none of these.
pub fn parse_relative(value: &str, reference: Time) -> Result<Time, Error> {
    let fail = |why: &str| Error::Time(format!("failed to parse value as time or duration: {why}"));
    if value.trim().is_empty() {
        return Err(fail("value is empty"));
    }
    if value != "0"
        && let Some(duration) = parse_duration(value)
    {
        return reference.0.checked_sub(duration).map(Time).map_err(|e| fail(&e.to_string()));
    }
    if let Some(time) = date_or_time(value) {
        return Ok(time);
    }
    if value.contains('-') {
        return Err(Error::Time(format!("parsing time {value:?}: cannot parse {value:?} as a time or date")));
    }
    unix(value).map_err(|why| fail(&why))
}

/// `2006-01-02`, `2006-01-02T15`, `..:04`, `..:05`, `...999`, each alone or with a zone.
fn date_or_time(value: &str) -> Option<Time> {
    if let Ok(time) = value.parse::<Timestamp>() {
        return Some(Time(time));
    }
    let zone_at = value.find(['Z', 'z', '+']).or_else(|| {
        let dashes: Vec<usize> = value.match_indices('-').map(|(at, _)| at).collect();
        (dashes.len() == 3).then(|| dashes[2])
    });
    let (local, zone) = value.split_at(zone_at.unwrap_or(value.len()));
    let full = match (local.contains('T'), local.matches(':').count()) {
        (false, _) => format!("{local}T00:00:00"),
        (true, 0) => format!("{local}:00:00"),
        (true, 1) => format!("{local}:00"),
        _ => local.to_owned(),
    };
    if zone.is_empty() {
        let civil: DateTime = full.parse().ok()?;
        return TimeZone::UTC.to_timestamp(civil).ok().map(Time);
    }
    format!("{full}{zone}").parse().ok().map(Time)
}

/// Reads a duration as Go's `time.ParseDuration` does: `1h30m`, `1.5s`, `-2ms`, `0`.
pub fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        total = total.checked_add(scaled(number, unit_nanos(unit)?)?)?;
        rest = tail;
    }
    let nanos = i64::try_from(if negative { -total } else { total }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal number of units in nanoseconds, what is below one nanosecond cut off.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(part.checked_mul(unit)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(Time::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Time::from_unix(1, 120_000_000).unwrap().to_string(), "1970-01-01T00:00:01.12Z");
        assert_eq!(Time::from_unix(1, 1).unwrap().to_string(), "1970-01-01T00:00:01.000000001Z");
        assert_eq!(at("2024-05-01T10:00:00.5+02:00").to_string(), "2024-05-01T08:00:00.5Z");
        assert_eq!(at("0001-01-01T00:00:00Z"), Time::default());
        assert!(Time::ZERO.is_zero() && Time::ZERO.unix_nanos() == i64::MIN);
        assert_eq!(crate::gojson::from_slice::<Time>(b"\"\"").unwrap(), Time::ZERO);
    }

    #[test]
    fn unix_times_have_dockers_errors() {
        assert_eq!(parse_unix("").unwrap(), None);
        assert_eq!(parse_unix("12.5").unwrap(), Time::from_unix(12, 500_000_000));
        assert_eq!(parse_unix("12.1234567899").unwrap(), Time::from_unix(12, 123_456_789));
        for (text, want) in [
            ("zzz", "invalid timestamp \"zzz\": invalid seconds \"zzz\": invalid syntax"),
            ("1.x", "invalid timestamp \"1.x\": invalid nanoseconds: invalid character 'x' at position 0"),
            (
                "99999999999999999999",
                "invalid timestamp \"99999999999999999999\": invalid seconds \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(parse_unix(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn until_takes_durations_dates_and_seconds() {
        let now = at("2024-05-02T00:00:00Z");
        for (text, want) in [
            ("24h", "2024-05-01T00:00:00Z"),
            ("1h30m", "2024-05-01T22:30:00Z"),
            ("2024-01-02", "2024-01-02T00:00:00Z"),
            ("2024-01-02T03", "2024-01-02T03:00:00Z"),
            ("2024-01-02T03:04", "2024-01-02T03:04:00Z"),
            ("2024-01-02T03:04:05.5", "2024-01-02T03:04:05.5Z"),
            ("2024-01-02T03:04-01:00", "2024-01-02T04:04:00Z"),
            ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
            ("100", "1970-01-01T00:01:40Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse_relative(text, now).unwrap().to_string(), want, "{text}");
        }
        for bad in ["", "x", "2024-13-01", "1y"] {
            assert!(parse_relative(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("1.5s", 1_500_000_000),
            ("-2ms", -2_000_000),
            ("1h1us", 3_600_000_001_000),
            (".5s", 500_000_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Some(SignedDuration::from_nanos(nanos)), "{text}");
        }
        for bad in ["", "-", "1", "s", "1.2.3s", "99999999999h", "1 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
