//! Sizes: `64m`, `1.5GiB` in; `1.23GB`, `7.5MiB` out (source: docker/go-units `size.go`).

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Reads a size whose units are powers of 1024, as for memory.
///
/// # Errors
/// In Docker's words.
pub(crate) fn ram_in_bytes(text: &str) -> Result<i64, String> {
    parse(text, 1024.0)
}

fn parse(text: &str, base: f64) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = (&text[..=last], &text[last + 1..]);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size: f64 = number
        .parse()
        .ok()
        .filter(|_| !number.is_empty() && !number.starts_with('+'))
        .ok_or_else(|| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
    if size < 0.0 {
        return Err(invalid());
    }
    let suffix = suffix.to_lowercase();
    let bad_suffix = || format!("invalid suffix: '{suffix}'");
    let mut letters = suffix.chars();
    let factor = match letters.next() {
        None => 1.0,
        Some('b') if suffix.len() == 1 => 1.0,
        Some(unit) => {
            let power = "kmgtp".find(unit).ok_or_else(bad_suffix)?;
            if !matches!(letters.as_str(), "" | "b" | "ib") {
                return Err(bad_suffix());
            }
            base.powi(i32::try_from(power).unwrap_or(0) + 1)
        }
    };
    Ok((size * factor) as i64)
}

fn scaled(size: f64, base: f64, units: [&'static str; 9]) -> (f64, &'static str) {
    let (mut size, mut unit) = (size, 0);
    while size >= base && unit < units.len() - 1 {
        size /= base;
        unit += 1;
    }
    (size, units[unit])
}

/// A size in powers of 1000 with so many significant digits: `1.23GB`.
pub(crate) fn human_with_precision(size: f64, precision: usize) -> String {
    let (size, unit) = scaled(size, 1000.0, DECIMAL);
    format!("{}{unit}", significant(size, precision))
}

/// A size in powers of 1000 with four significant digits.
pub(crate) fn human(size: f64) -> String {
    human_with_precision(size, 4)
}

/// A size in powers of 1024 with four significant digits: `7.5MiB`.
pub(crate) fn binary(size: f64) -> String {
    let (size, unit) = scaled(size, 1024.0, BINARY);
    format!("{}{unit}", significant(size, 4))
}

/// C's `%.<precision>g` for numbers from 0 to 9999 and beyond.
fn significant(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = format!("{value:.*e}", precision.saturating_sub(1));
    let exponent: i32 = exponent.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if exponent < -4 || exponent >= i32::try_from(precision).unwrap_or(4) {
        let text = format!("{value:.*e}", precision.saturating_sub(1));
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
        let power: i32 = power.parse().unwrap_or(0);
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim_zeros(mantissa), power.abs());
    }
    let decimals = usize::try_from(i32::try_from(precision).unwrap_or(4) - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_does() {
        for (text, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 MB", 32 << 20),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("0", 0),
            ("32.", 32),
        ] {
            assert_eq!(ram_in_bytes(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            ("32bb", "invalid suffix: 'bb'"),
            ("32mm", "invalid suffix: 'mm'"),
            ("32kibx", "invalid suffix: 'kibx'"),
            ("32x", "invalid suffix: 'x'"),
            (" ", "strconv.ParseFloat: parsing \"\": invalid syntax"),
        ] {
            assert_eq!(ram_in_bytes(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_docker_does() {
        for (bytes, text) in [
            (0.0, "0B"),
            (1.0, "1B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1024.0, "1.024kB"),
            (4261550.0, "4.262MB"),
            (1e9, "1GB"),
            (123456789.0, "123.5MB"),
            (999999.0, "1000kB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human_with_precision(4261550.0, 3), "4.26MB");
        assert_eq!(human_with_precision(999999.0, 3), "1e+03kB");
        assert_eq!(binary(7.5 * 1048576.0), "7.5MiB");
        assert_eq!(binary(1023.0), "1023B");
    }
}
