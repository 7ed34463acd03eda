//! RFC 3339 with nanoseconds, as Go's `time.RFC3339Nano` writes it: in UTC, trailing zeros of the fraction
//! dropped, no fraction at all for whole seconds.

use wharf_spec::shim::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// The wall clock now.
pub fn now() -> Timestamp {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp { seconds: t.tv_sec, nanos: u32::try_from(t.tv_nsec).unwrap_or(0) }
}

/// Years 0 to 9999; times outside are brought to the nearer end, as no log can hold them.
pub fn format_rfc3339_nano(time: Timestamp) -> String {
    let mut out = Vec::with_capacity(30);
    Formatter::default().append(time, &mut out);
    out.into_iter().map(char::from).collect()
}

/// Formats times, remembering the last second: within a second only the fraction is new.
#[derive(Debug)]
pub(crate) struct Formatter {
    second: Option<i64>,
    text: [u8; 19],
}

impl Default for Formatter {
    fn default() -> Self {
        Formatter { second: None, text: *b"0000-00-00T00:00:00" }
    }
}

impl Formatter {
    /// Appends `2024-01-02T03:04:05.12Z`.
    pub(crate) fn append(&mut self, time: Timestamp, out: &mut Vec<u8>) {
        if self.second != Some(time.seconds) {
            self.text = civil_text(time.seconds);
            self.second = Some(time.seconds);
        }
        out.extend_from_slice(&self.text);
        append_fraction(time.nanos.min(999_999_999), out);
        out.push(b'Z');
    }
}

fn append_fraction(nanos: u32, out: &mut Vec<u8>) {
    if nanos == 0 {
        return;
    }
    let mut digits = *b".000000000";
    let mut rest = nanos;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    out.extend_from_slice(&digits[..digits.len() - zeros]);
}

fn civil_text(seconds: i64) -> [u8; 19] {
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let mut text = *b"0000-00-00T00:00:00";
    let year = year.clamp(0, 9999);
    put2(&mut text, 0, year / 100);
    put2(&mut text, 2, year % 100);
    put2(&mut text, 5, month);
    put2(&mut text, 8, day);
    put2(&mut text, 11, second_of_day / 3600);
    put2(&mut text, 14, second_of_day / 60 % 60);
    put2(&mut text, 17, second_of_day % 60);
    text
}

fn put2(text: &mut [u8; 19], at: usize, value: i64) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// (year, month, day) of a day counted from 1970-01-01, proleptic Gregorian (source: H. Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`], same source.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Any RFC 3339 time; the form that logs use is read without allocation.
pub fn parse_rfc3339_nano(text: &str) -> Option<Timestamp> {
    parse_bytes(text.as_bytes())
}

pub(crate) fn parse_bytes(text: &[u8]) -> Option<Timestamp> {
    parse_utc(text).or_else(|| parse_any(text))
}

fn parse_any(text: &[u8]) -> Option<Timestamp> {
    let parsed: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    let nanos = parsed.as_nanosecond();
    Some(Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    })
}

fn parse_utc(text: &[u8]) -> Option<Timestamp> {
    let (civil, rest) = text.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| civil[*at] != *byte) {
        return None;
    }
    let year = digits(&civil[0..4])?;
    let (month, day) = (digits(&civil[5..7])?, digits(&civil[8..10])?);
    let (hour, minute, second) = (digits(&civil[11..13])?, digits(&civil[14..16])?, digits(&civil[17..19])?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let nanos = fraction(rest)?;
    let days = days_from_civil(year, month, day);
    Some(Timestamp { seconds: days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second, nanos })
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

/// `Z` or `.123Z`.
fn fraction(rest: &[u8]) -> Option<u32> {
    match rest {
        b"Z" => Some(0),
        [b'.', digit_text @ .., b'Z'] if (1..=9).contains(&digit_text.len()) => {
            let value = u32::try_from(digits(digit_text)?).ok()?;
            Some(value * 10u32.pow(9 - digit_text.len() as u32))
        }
        _ => None,
    }
}

/// For comparing.
pub(crate) fn key(time: Timestamp) -> (i64, u32) {
    (time.seconds, time.nanos)
}

/// `time` plus `nanos` (less than a second).
pub(crate) fn later_by(time: Timestamp, nanos: u32) -> Timestamp {
    let sum = time.nanos.saturating_add(nanos);
    match sum.checked_sub(1_000_000_000) {
        Some(rest) => Timestamp { seconds: time.seconds.saturating_add(1), nanos: rest.min(999_999_999) },
        None => Timestamp { nanos: sum, ..time },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    #[test]
    fn trims_zeros_as_go_does() {
        assert_eq!(format_rfc3339_nano(at(1_704_164_645, 0)), "2024-01-02T03:04:05Z");
        assert_eq!(format_rfc3339_nano(at(1_704_164_645, 120_000_000)), "2024-01-02T03:04:05.12Z");
        assert_eq!(format_rfc3339_nano(at(1_704_164_645, 7)), "2024-01-02T03:04:05.000000007Z");
        assert_eq!(format_rfc3339_nano(at(-1, 999_999_999)), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn agrees_with_jiff_over_centuries() {
        let mut seconds = -60_000_000_000;
        while seconds < 250_000_000_000 {
            let want = jiff::Timestamp::new(seconds, 0).unwrap().to_string();
            assert_eq!(format_rfc3339_nano(at(seconds, 0)), want);
            assert_eq!(parse_rfc3339_nano(&want), Some(at(seconds, 0)));
            seconds += 86_400 * 97 + 12_345;
        }
    }

    #[test]
    fn reads_what_go_wrote_and_offsets() {
        assert_eq!(parse_rfc3339_nano("2024-01-02T03:04:05.12Z"), Some(at(1_704_164_645, 120_000_000)));
        assert_eq!(parse_rfc3339_nano("2024-01-02T05:04:05.5+02:00"), Some(at(1_704_164_645, 500_000_000)));
        for bad in
            ["", "Z", "2024-13-02T03:04:05Z", "2024-01-02T03:04:05.Z", "2024-01-02T03:04:05.1234567890Z", "x"]
        {
            assert_eq!(parse_utc(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn adds_across_the_second() {
        assert_eq!(later_by(at(5, 999_999_999), 2), at(6, 1));
        assert_eq!(later_by(at(5, 1), 2), at(5, 3));
    }
}
