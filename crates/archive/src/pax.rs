//! PAX records: `"%d %s=%s\n"` (source: pax(1), "pax Extended Header"; leniency as Go's
//! `archive/tar/strconv.go`).

use crate::{Error, Header, Time};
use std::collections::BTreeMap;

pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
pub(crate) const SPARSE_BLOCKS: &[u8] = b"GNU.sparse.numblocks";

/// Reads all records of an extension header. The pairs of GNU's sparse format 0.0, which repeat a key, are
/// joined into the map of format 0.1.
pub(crate) fn parse(mut data: &[u8]) -> Result<Records, Error> {
    let mut records = Records::new();
    let mut sparse: Vec<&[u8]> = Vec::new();
    while !data.is_empty() {
        let (key, value, rest) = parse_one(data)?;
        data = rest;
        match key {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let expected: &[u8] = if sparse.len().is_multiple_of(2) {
                    b"GNU.sparse.offset"
                } else {
                    b"GNU.sparse.numbytes"
                };
                if key != expected || value.contains(&b',') {
                    return Err(Error::Header);
                }
                sparse.push(value);
            }
            _ => {
                records.insert(key.to_vec(), value.to_vec());
            }
        }
    }
    if !sparse.is_empty() {
        records.insert(SPARSE_MAP.to_vec(), sparse.join(&b','));
    }
    Ok(records)
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first record's key and value, and what follows it.
fn parse_one(data: &[u8]) -> Result<Record<'_>, Error> {
    let space = data.iter().take(20).position(|&byte| byte == b' ').ok_or(Error::Header)?;
    let length = parse_decimal(&data[..space])?;
    let length = usize::try_from(length).map_err(|_| Error::Header)?;
    if length < 5 || length > data.len() || length < space + 2 || data[length - 1] != b'\n' {
        return Err(Error::Header);
    }
    let record = &data[space + 1..length - 1];
    let equals = record.iter().position(|&byte| byte == b'=').ok_or(Error::Header)?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if !is_valid(key, value) {
        return Err(Error::Header);
    }
    Ok((key, value, &data[length..]))
}

fn is_valid(key: &[u8], value: &[u8]) -> bool {
    !key.is_empty()
        && !key.contains(&b'=')
        && match key {
            b"path" | b"linkpath" | b"uname" | b"gname" => !value.contains(&0),
            _ => !key.contains(&0),
        }
}

/// Decimal with an optional sign.
pub(crate) fn parse_decimal(text: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Error::Header)
}

/// Lets records replace fields. Returns the size if they hold one. Empty values change nothing.
pub(crate) fn merge(header: &mut Header, records: Records) -> Result<Option<i64>, Error> {
    let mut size = None;
    for (key, value) in records.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_slice() {
            b"path" => header.name.clone_from(value),
            b"linkpath" => header.link.clone_from(value),
            b"uname" => header.uname.clone_from(value),
            b"gname" => header.gname.clone_from(value),
            b"uid" => header.uid = parse_decimal(value)?,
            b"gid" => header.gid = parse_decimal(value)?,
            b"atime" => header.atime = Some(parse_time(value)?),
            b"mtime" => header.mtime = parse_time(value)?,
            b"ctime" => header.ctime = Some(parse_time(value)?),
            b"size" => size = Some(parse_decimal(value)?),
            _ => {}
        }
    }
    header.pax = records;
    Ok(size)
}

/// `seconds` or `seconds.fraction`; digits after the ninth are dropped.
pub(crate) fn parse_time(text: &[u8]) -> Result<Time, Error> {
    let (seconds_text, fraction) = match text.iter().position(|&byte| byte == b'.') {
        None => (text, &[][..]),
        Some(dot) => (&text[..dot], &text[dot + 1..]),
    };
    let seconds = parse_decimal(seconds_text)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(Error::Header);
    }
    let mut nanos = 0;
    for at in 0..9 {
        nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    }
    if nanos > 0 && seconds_text.starts_with(b"-") {
        let seconds = seconds.checked_sub(1).ok_or(Error::Header)?;
        return Ok(Time { seconds, nanos: 1_000_000_000 - nanos });
    }
    Ok(Time { seconds, nanos })
}

/// The reverse of [`parse_time`], without trailing zeros.
pub(crate) fn format_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let text = if time.seconds < 0 {
        format!("-{}.{:09}", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        format!("{}.{:09}", time.seconds, time.nanos)
    };
    text.trim_end_matches('0').to_owned()
}

/// One record, its own length in front. `None` when key or value cannot stand in one.
pub(crate) fn format_record(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if !is_valid(key, value) {
        return None;
    }
    let bare = key.len() + value.len() + 3;
    let mut length = bare + bare.to_string().len();
    length = bare + length.to_string().len();
    let mut record = Vec::with_capacity(length);
    record.extend_from_slice(length.to_string().as_bytes());
    record.push(b' ');
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_at_every_length() {
        for length in [0, 1, 80, 88, 89, 90, 91, 92, 985, 986, 987, 988, 989, 990, 9983, 9984, 9985, 9986] {
            let value = vec![b'v'; length];
            let record = format_record(b"k", &value).unwrap();
            assert_eq!(parse(&record).unwrap()[&b"k"[..]], value, "{length}");
        }
    }

    #[test]
    fn bad_records_are_refused() {
        for bad in [
            &b"5 a=\n"[..],
            b"6 a=1",
            b"99 a=1\n",
            b"a=1\n",
            b"-6 a=1\n",
            b"6 =12\n",
            b"11 path=a\0b\n",
            b"18446744073709551616 a=b\n",
            b"7 a b c\n",
        ] {
            assert!(parse(bad).is_err() || bad == b"5 a=\n", "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_round_trip() {
        for (text, seconds, nanos) in
            [("0", 0, 0), ("1.5", 1, 500_000_000), ("-1.5", -2, 500_000_000), ("-0.25", -1, 750_000_000)]
        {
            let time = parse_time(text.as_bytes()).unwrap();
            assert_eq!(time, Time { seconds, nanos });
            assert_eq!(format_time(time), text);
        }
        assert_eq!(parse_time(b"7.1234567891").unwrap().nanos, 123_456_789);
        assert!(parse_time(b"1.x").is_err() && parse_time(b"").is_err());
    }
}
