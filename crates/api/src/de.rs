//! `deserialize_with` functions for fields whose Go type reads more, or less, than the Rust one.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use std::{fmt, net::IpAddr};

/// A list of strings that may be given as one string (moby `api/types/strslice`).
pub(crate) fn strslice<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    struct StrSlice;
    impl<'de> Visitor<'de> for StrSlice {
        type Value = Option<Vec<String>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![v.to_owned()]))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = seq.next_element()? {
                list.push(item);
            }
            Ok(Some(list))
        }
    }
    d.deserialize_any(StrSlice)
}

/// A pair of numbers; as Go's arrays, a shorter list is filled with zeros and a longer one is cut.
pub(crate) fn pair<'de, D: Deserializer<'de>>(d: D) -> Result<[u64; 2], D::Error> {
    let list = Vec::<u64>::deserialize(d)?;
    let mut items = list.into_iter();
    Ok([items.next().unwrap_or(0), items.next().unwrap_or(0)])
}

/// As [`pair`], where there may be none.
pub(crate) fn optional_pair<'de, D: Deserializer<'de>>(d: D) -> Result<Option<[u64; 2]>, D::Error> {
    Ok(Option::<Vec<u64>>::deserialize(d)?.map(|list| {
        let mut items = list.into_iter();
        [items.next().unwrap_or(0), items.next().unwrap_or(0)]
    }))
}

/// An address of Go's `netip.Addr`: empty, or an address with an optional zone. The text is kept.
pub(crate) fn address<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    check_address(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// A list of addresses, see [`address`].
pub(crate) fn addresses<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    let list = Option::<Vec<String>>::deserialize(d)?;
    for text in list.iter().flatten() {
        check_address(text).map_err(D::Error::custom)?;
    }
    Ok(list)
}

fn check_address(text: &str) -> Result<(), String> {
    let (bare, zone) = text.split_once('%').map_or((text, None), |(bare, zone)| (bare, Some(zone)));
    match (text, bare.parse::<IpAddr>(), zone) {
        ("", ..) | (_, Ok(_), None) => Ok(()),
        (_, Ok(IpAddr::V6(_)), Some(zone)) if !zone.is_empty() => Ok(()),
        _ => Err(format!("ParseAddr({text:?}): unable to parse IP")),
    }
}

/// A hardware address as Go's `net.ParseMAC` reads the 48-bit forms: empty, `02:42:..`, `02-42-..` or
/// `0242.ac11.0002`. Kept in the colon form.
pub(crate) fn hardware_address<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    if text.is_empty() {
        return Ok(text);
    }
    parse_mac(&text).ok_or_else(|| D::Error::custom(format!("address {text}: invalid MAC address")))
}

fn parse_mac(text: &str) -> Option<String> {
    let (separator, digits) =
        if text.contains('.') { ('.', 4) } else { (if text.contains('-') { '-' } else { ':' }, 2) };
    let parts: Vec<&str> = text.split(separator).collect();
    let whole = parts.len() * digits == 12 && parts.iter().all(|p| p.len() == digits);
    let hex: String = parts.concat().to_ascii_lowercase();
    if !whole || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Vec<&str> = (0..6).map(|i| &hex[i * 2..i * 2 + 2]).collect();
    Some(bytes.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["", "1.2.3.4", "::1", "fe80::1%eth0"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        assert_eq!(check_address("notanip").unwrap_err(), "ParseAddr(\"notanip\"): unable to parse IP");
        for bad in ["1.2.3", "1.2.3.4%eth0", "fe80::1%"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_are_normalised() {
        for text in ["02:42:AC:11:00:02", "02-42-ac-11-00-02", "0242.ac11.0002"] {
            assert_eq!(parse_mac(text).as_deref(), Some("02:42:ac:11:00:02"), "{text}");
        }
        for bad in ["02:42:ac:11:00", "zz:42:ac:11:00:02", "0:2:4:2:a:c", "é2:42:ac:11:00:0"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
