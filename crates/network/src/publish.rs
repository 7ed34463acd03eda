//! Which traffic to published ports passes where the host's own rules count (publish mode `filtered`).

use crate::{addr::Subnet, ports::Protocol};
use std::str::FromStr;

/// What the host lets through to published ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishAllow {
    /// Each lets something through.
    pub rules: Vec<AllowRule>,
    /// So does a set of the host's own rules.
    pub set: Option<AllowSet>,
    /// The host's FORWARD chain decides: no rule of ours lets published traffic pass there.
    pub forward: bool,
}

/// Who reaches which published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllowRule {
    /// From where; `None` is anywhere.
    pub source: Option<Subnet>,
    /// Transport; `None` is any.
    pub protocol: Option<Protocol>,
    /// The host's port; `None` is any.
    pub port: Option<u16>,
}

/// A set of IPv4 addresses in a table of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowSet {
    /// The table's family (NFPROTO_INET, NFPROTO_IPV4).
    pub(crate) family: u8,
    /// The table.
    pub(crate) table: String,
    /// The set.
    pub(crate) set: String,
}

/// A text that says not what is let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no {1}")]
pub struct ParseAllowError(String, &'static str);

const RULE: &str =
    "source, port or both, such as \"192.0.2.0/24\", \"443/tcp\", \"192.0.2.0/24 443/tcp\", nor \"forward\"";
const SET: &str = "family (ip or inet), table and set, such as \"inet filter published\"";

impl PublishAllow {
    /// From the texts of `publish-allow` and `publish-allow-set`.
    ///
    /// # Errors
    /// For a text of another form.
    pub fn parse(allow: &[String], set: &str) -> Result<Self, ParseAllowError> {
        let mut all = Self::default();
        for text in allow {
            match text.as_str() {
                "forward" => all.forward = true,
                rule => all.rules.push(rule.parse()?),
            }
        }
        if !set.is_empty() {
            all.set = Some(set.parse()?);
        }
        Ok(all)
    }
}

impl FromStr for AllowRule {
    type Err = ParseAllowError;

    fn from_str(text: &str) -> Result<Self, ParseAllowError> {
        let refused = || ParseAllowError(text.to_owned(), RULE);
        let mut rule = Self::default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let port = match words[..] {
            [source, port] => {
                rule.source = Some(subnet(source).ok_or_else(refused)?);
                Some(port)
            }
            [word] => {
                rule.source = subnet(word);
                Some(word).filter(|_| rule.source.is_none())
            }
            _ => return Err(refused()),
        };
        let Some(port) = port else { return Ok(rule) };
        let (number, protocol) = port.split_once('/').map_or((port, None), |(n, p)| (n, Some(p)));
        rule.protocol = protocol.map(|p| p.parse().map_err(|_| refused())).transpose()?;
        rule.port = Some(number.parse().ok().filter(|port| *port != 0).ok_or_else(refused)?);
        Ok(rule)
    }
}

/// A subnet, or the one of a single address.
fn subnet(text: &str) -> Option<Subnet> {
    let single = || {
        let address: std::net::IpAddr = text.parse().ok()?;
        Subnet::new(address, if address.is_ipv4() { 32 } else { 128 })
    };
    text.parse::<Subnet>().ok().or_else(single).map(|subnet| subnet.masked())
}

impl FromStr for AllowSet {
    type Err = ParseAllowError;

    fn from_str(text: &str) -> Result<Self, ParseAllowError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (family, table, set) = match words[..] {
            ["inet", table, set] => (1, table, set),
            ["ip", table, set] => (2, table, set),
            _ => return Err(ParseAllowError(text.to_owned(), SET)),
        };
        Ok(Self { family, table: table.to_owned(), set: set.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_who_and_what() {
        let rule = |text: &str| text.parse::<AllowRule>();
        assert_eq!(rule("192.0.2.7/24").unwrap().source.unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(rule("192.0.2.7").unwrap().source.unwrap().to_string(), "192.0.2.7/32");
        let any = rule("443").unwrap();
        assert_eq!((any.source, any.protocol, any.port), (None, None, Some(443)));
        let both = rule("10.0.0.0/8  53/udp").unwrap();
        assert_eq!((both.protocol, both.port), (Some(Protocol::Udp), Some(53)));
        assert!(both.source.is_some());
        for nonsense in ["", "x", "0", "70000", "1/icmp", "10.0.0.0/33", "10.0.0.0/8 x", "1 2", "1 2 3"] {
            assert!(rule(nonsense).is_err(), "{nonsense}");
        }
        let set: AllowSet = "inet filter published".parse().unwrap();
        assert_eq!((set.family, set.table.as_str(), set.set.as_str()), (1, "filter", "published"));
        let error = "bridge a b".parse::<AllowSet>().unwrap_err().to_string();
        assert!(error.starts_with("\"bridge a b\" is no family"), "{error}");
        let all = PublishAllow::parse(&["forward".into(), "80".into()], "").unwrap();
        assert!(all.forward && all.rules.len() == 1 && all.set.is_none());
    }
}
