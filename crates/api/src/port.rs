//! Ports of containers: `80/tcp`, and ranges of them.

use crate::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A port of a container with its protocol, normalised to `number/protocol` in lower case. The protocol is
/// any word, as in moby; whether it can be served is the engine's question
/// (source: moby `api/types/network/port.go`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    text: Box<str>,
    number: u16,
}

impl Port {
    /// The port of a number and a protocol; an empty protocol means tcp.
    pub fn new(number: u16, protocol: &str) -> Self {
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        Self { text: format!("{number}/{}", protocol.to_lowercase()).into(), number }
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The protocol: `tcp`, `udp`, `sctp`, or what the client said.
    pub fn protocol(&self) -> &str {
        self.text.split_once('/').map_or("", |(_, protocol)| protocol)
    }

    /// The text `80/tcp`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Port {
    type Err = Error;

    /// Parses `80`, `80/tcp` or `80/UDP`.
    fn from_str(s: &str) -> Result<Self, Error> {
        if s.is_empty() {
            return Err(Error::Port("invalid port: value is empty".into()));
        }
        let (number, protocol) = s.split_once('/').unwrap_or((s, ""));
        let parsed =
            parse_number(number).map_err(|why| Error::Port(format!("invalid port '{number}': {why}")))?;
        Ok(Self::new(parsed, protocol))
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A range of ports of one protocol, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub start: u16,
    /// The last port, not below `start`.
    pub end: u16,
    /// The protocol in lower case.
    pub protocol: String,
}

impl FromStr for PortRange {
    type Err = Error;

    /// Parses `80`, `80-90`, `80-90/udp`.
    fn from_str(s: &str) -> Result<Self, Error> {
        if s.is_empty() {
            return Err(Error::Port("invalid port range: value is empty".into()));
        }
        let (range, protocol) = s.split_once('/').unwrap_or((s, ""));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bad = |which, text, why| Error::Port(format!("invalid {which} port '{text}': {why}"));
        let start = parse_number(first).map_err(|why| bad("start", first, why))?;
        let end = parse_number(last).map_err(|why| bad("end", last, why))?;
        if end < start {
            return Err(Error::Port(format!("invalid port range: {s}")));
        }
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        Ok(Self { start, end, protocol: protocol.to_lowercase() })
    }
}

impl PortRange {
    /// Every port of the range.
    pub fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        (self.start..=self.end).map(|number| Port::new(number, &self.protocol))
    }
}

/// Go's `strconv.ParseUint(raw, 10, 16)` with its reasons.
fn parse_number(raw: &str) -> Result<u16, &'static str> {
    if raw.is_empty() {
        return Err("value is empty");
    }
    if !raw.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    raw.parse().map_err(|_| "value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_normalised() {
        assert_eq!("80".parse::<Port>().unwrap().as_str(), "80/tcp");
        assert_eq!("53/UDP".parse::<Port>().unwrap(), Port::new(53, "udp"));
        assert_eq!("80/xyz".parse::<Port>().unwrap().protocol(), "xyz");
        let message = |s: &str| s.parse::<Port>().unwrap_err().to_string();
        assert_eq!(message(""), "invalid port: value is empty");
        assert_eq!(message("/tcp"), "invalid port '': value is empty");
        assert_eq!(message("x/tcp"), "invalid port 'x': invalid syntax");
        assert_eq!(message("99999"), "invalid port '99999': value out of range");
    }

    #[test]
    fn ranges_include_both_ends() {
        let range: PortRange = "8000-8002/udp".parse().unwrap();
        let all: Vec<_> = range.ports().map(|p| p.to_string()).collect();
        assert_eq!(all, ["8000/udp", "8001/udp", "8002/udp"]);
        assert_eq!("80".parse::<PortRange>().unwrap().end, 80);
        assert_eq!("9-8".parse::<PortRange>().unwrap_err().to_string(), "invalid port range: 9-8");
        assert!("8-".parse::<PortRange>().is_err());
        assert_eq!("65535-65535".parse::<PortRange>().unwrap().ports().count(), 1);
    }
}
