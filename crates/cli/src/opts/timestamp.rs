//! `--since`, `--until`: durations back from now, dates, times, seconds (source: moby
//! `api/types/time/timestamp.go`, `GetTimestamp`).

use super::duration;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// The text as the API takes it, `seconds` or `seconds.nanoseconds`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if let Ok(nanos) = duration::parse(text)
        && !text.bytes().all(|b| b.is_ascii_digit())
    {
        let now = Timestamp::now().as_nanosecond();
        return Ok((now - i128::from(nanos)).div_euclid(1_000_000_000).to_string());
    }
    if let Some(time) = date(text) {
        return Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()));
    }
    let seconds = text.split('.').next().unwrap_or_default();
    match seconds.parse::<i64>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("failed to parse value as time or duration: {text:?}")),
    }
}

/// A date or time in local time, unless it says otherwise.
fn date(text: &str) -> Option<Timestamp> {
    if !text.contains('-') {
        return None;
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let text = text.strip_suffix('Z').map_or(text.to_owned(), str::to_owned);
    let with_minutes = if text.len() == 13 && text.contains('T') { format!("{text}:00") } else { text };
    let civil: DateTime = with_minutes.parse().ok()?;
    civil.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_does() {
        assert_eq!(parse("").unwrap(), "");
        assert_eq!(parse("1136073845").unwrap(), "1136073845");
        assert_eq!(parse("1136073845.000000001").unwrap(), "1136073845.000000001");
        assert_eq!(parse("2006-01-02T15:04:05.5Z").unwrap(), "1136214245.500000000");
        assert_eq!(parse("2006-01-02T15:04:05+02:00").unwrap(), "1136207045.000000000");
        assert!(
            parse("2006-01-02T15:04").is_ok()
                && parse("2006-01-02T15").is_ok()
                && parse("2006-01-02").is_ok()
        );
        let hour_ago: i64 = parse("1h").unwrap().parse().unwrap();
        assert!((Timestamp::now().as_second() - 3600 - hour_ago).abs() < 60);
        assert!(parse("soon").is_err());
    }
}
