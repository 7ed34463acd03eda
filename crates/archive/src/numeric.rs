//! Numbers in header fields: octal, or base-256 when the first bit is set
//! (source: Go `archive/tar/strconv.go`).

use crate::Error;

/// Reads either form.
pub(crate) fn parse(field: &[u8]) -> Result<i64, Error> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => parse_base256(field),
        _ => parse_octal(field),
    }
}

/// Two's complement, big-endian, the first bit being the mark of the form.
fn parse_base256(field: &[u8]) -> Result<i64, Error> {
    let negative = field[0] & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let mut value = 0u64;
    for (at, &byte) in field.iter().enumerate() {
        let mut byte = byte ^ invert;
        if at == 0 {
            byte &= 0x7f;
        }
        if value >> 56 != 0 {
            return Err(Error::Header);
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| Error::Header)?;
    Ok(if negative { !value } else { value })
}

/// Octal digits between spaces and NULs; nothing at all is zero.
pub(crate) fn parse_octal(field: &[u8]) -> Result<i64, Error> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !is_padding(byte)) else { return Ok(0) };
    let end = field.iter().rposition(|byte| !is_padding(byte)).map_or(start, |last| last + 1);
    let digits = field[start..end].split(|&byte| byte == 0).next().unwrap_or_default();
    let mut value = 0u64;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) || value >> 61 != 0 {
            return Err(Error::Header);
        }
        value = value << 3 | u64::from(digit - b'0');
    }
    i64::try_from(value).map_err(|_| Error::Header)
}

/// Whether a number fits a field in octal, its NUL included.
pub(crate) fn fits_octal(width: usize, value: i64) -> bool {
    value >= 0 && (width >= 22 || value < 1 << ((width - 1) * 3))
}

/// Writes octal with leading zeros and a NUL at the end. The value fits.
pub(crate) fn format_octal(field: &mut [u8], value: i64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(&text.as_bytes()[text.len() - digits..]);
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse(b"0000644\0").unwrap(), 0o644);
        assert_eq!(parse(b"  644 \0\0").unwrap(), 0o644);
        assert_eq!(parse(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(parse(b"\x80\0\0\0\0\0\0\0\0\0\x01\x02").unwrap(), 258);
        assert_eq!(parse(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").unwrap(), -1);
        assert_eq!(parse(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff").unwrap(), i64::MAX);
    }

    #[test]
    fn overflow_and_other_digits_are_refused() {
        assert!(parse(b"0000648\0").is_err());
        assert!(parse(b"\x80\0\0\0\x80\0\0\0\0\0\0\0").is_err());
        assert!(parse(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(parse_octal(b"7777777777777777777777777").is_err());
    }

    #[test]
    fn octal_is_written_with_zeros_and_nul() {
        let mut field = [b'x'; 8];
        format_octal(&mut field, 0o755);
        assert_eq!(&field, b"0000755\0");
        assert!(fits_octal(8, 0o7777777) && !fits_octal(8, 0o10000000) && !fits_octal(8, -1));
    }
}
