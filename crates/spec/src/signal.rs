//! Signals: names and numbers, parsed as Docker does (source: `github.com/moby/sys/signal`).

use crate::ErrorKind;

/// The first real-time signal a program may use: the C library keeps 32 and 33 for itself.
pub const RTMIN: i32 = 34;
/// The last real-time signal.
pub const RTMAX: i32 = 64;

/// Names without `SIG`, and the numbers they have on x86, arm and most others. Where a number has two names,
/// the first one is the one [`name`] gives.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// What was written is no signal. The text is Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct ParseSignalError(pub String);

impl ParseSignalError {
    /// The class of the error for a client.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Parses `SIGTERM`, `term`, `15`, `RTMIN+3`, `SIGRTMAX-2`.
///
/// Any decimal number but 0 passes, as in Docker, which asks [`is_valid`] afterwards where it matters and
/// then has another message.
///
/// # Errors
/// [`ParseSignalError`] for an unknown name and for 0.
pub fn parse(written: &str) -> Result<i32, ParseSignalError> {
    let invalid = || ParseSignalError(written.to_owned());
    match written.parse::<i32>() {
        Ok(0) => Err(invalid()),
        Ok(number) => Ok(number),
        Err(_) => by_name(written).ok_or_else(invalid),
    }
}

/// The number of a signal's name: any case, with or without `SIG`.
fn by_name(written: &str) -> Option<i32> {
    let upper = written.to_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == short) {
        return Some(*number);
    }
    real_time(short)
}

/// `RTMIN`, `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX-1`, `RTMAX`: the forms that Docker lists.
fn real_time(short: &str) -> Option<i32> {
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return offset(rest, '+', 15).map(|n| RTMIN + n);
    }
    offset(short.strip_prefix("RTMAX")?, '-', 14).map(|n| RTMAX - n)
}

/// What follows RTMIN or RTMAX: nothing, or the sign and 1 to `most` without leading zeros.
fn offset(rest: &str, sign: char, most: i32) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|n| canonical && (1..=most).contains(n))
}

/// Whether a number is a signal that can be sent: 1 to 31 and the real-time ones.
pub fn is_valid(number: i32) -> bool {
    (1..=31).contains(&number) || (RTMIN..=RTMAX).contains(&number)
}

/// The name of a signal, such as `SIGTERM` or `SIGRTMIN+3`.
pub fn name(number: i32) -> Option<String> {
    if let Some((name, _)) = NAMES.iter().find(|(_, n)| *n == number) {
        return Some(format!("SIG{name}"));
    }
    match number {
        RTMIN => Some("SIGRTMIN".to_owned()),
        RTMAX => Some("SIGRTMAX".to_owned()),
        n if (RTMIN..=RTMIN + 15).contains(&n) => Some(format!("SIGRTMIN+{}", n - RTMIN)),
        n if (RTMIN..=RTMAX).contains(&n) => Some(format!("SIGRTMAX-{}", RTMAX - n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_docker_is_read() {
        for (written, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("+15", 15),
            ("CLD", 17),
            ("IOT", 6),
            ("POLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+15", 49),
            ("RTMAX-14", 50),
            ("RTMAX", 64),
            ("99", 99),
            ("-1", -1),
        ] {
            assert_eq!(parse(written), Ok(number), "{written}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_in_dockers_words() {
        for written in [
            "",
            "0",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            "RTMIN+16",
            "RTMIN+0",
            "RTMIN+01",
            "RTMAX-15",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN++1",
            "RTMIN+",
            "1.5",
            "99999999999",
        ] {
            assert_eq!(parse(written).unwrap_err().to_string(), format!("invalid signal: {written}"));
        }
    }

    #[test]
    fn names_and_numbers_are_inverse() {
        for number in -2..80 {
            match name(number) {
                Some(name) => assert_eq!(parse(&name), Ok(number), "{name}"),
                None => assert!(!is_valid(number), "{number} has no name"),
            }
        }
        assert!(!is_valid(32) && !is_valid(33) && !is_valid(0) && !is_valid(65));
        assert_eq!(name(6).as_deref(), Some("SIGABRT"));
        assert_eq!(name(29).as_deref(), Some("SIGIO"));
    }
}
