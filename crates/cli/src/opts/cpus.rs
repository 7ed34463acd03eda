//! Numbers of CPUs: `1.5` is 1,500,000,000 billionths.

/// Reads a number of CPUs as billionths, exactly.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let not_rational = || format!("failed to parse {text} as a rational number");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !number(whole) || !number(fraction) {
        return Err(not_rational());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let nanos: i64 = format!("{whole}{fraction:0<9}").parse().map_err(|_| not_rational())?;
    Ok(if negative { -nanos } else { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact() {
        for (text, nanos) in [
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            (".25", 250_000_000),
            ("2.", 2_000_000_000),
            ("-1", -1_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
        assert_eq!(parse("a"), Err("failed to parse a as a rational number".into()));
        assert_eq!(parse("1.0000000001"), Err("value is too precise".into()));
        assert!(parse("").is_err() && parse(".").is_err());
    }
}
