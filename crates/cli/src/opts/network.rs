//! `--network name` and `--network name=..,alias=..` (source: docker/cli `opts/network.go`).

use super::csv;
use std::{collections::BTreeMap, net::IpAddr};

/// What one `--network` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) target: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) links: Vec<String>,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) ipv4: String,
    pub(crate) ipv6: String,
    pub(crate) link_local: Vec<String>,
    pub(crate) mac: String,
    pub(crate) gw_priority: i64,
}

/// Whether the text is a network.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

/// Reads one `--network`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn parse(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !is_long(text) {
        attachment.target = text.to_owned();
        return Ok(attachment);
    }
    for field in csv::fields(text)? {
        let lower = field.to_lowercase();
        let (key, value) = lower
            .split_once('=')
            .filter(|(k, _)| !k.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        set(&mut attachment, key.trim(), value.trim())?;
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// Go: the text matches `\w+=\w+` anywhere.
fn is_long(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices('=').any(|(at, _)| text[..at].ends_with(word) && text[at + 1..].starts_with(word))
}

fn set(attachment: &mut Attachment, key: &str, value: &str) -> Result<(), String> {
    match key {
        "name" => attachment.target = value.to_owned(),
        "alias" => attachment.aliases.push(value.to_owned()),
        "ip" => attachment.ipv4 = address(value)?,
        "ip6" => attachment.ipv6 = address(value)?,
        "mac-address" => attachment.mac = value.to_owned(),
        "link-local-ip" => attachment.link_local.push(address(value)?),
        "driver-opt" => {
            let (name, value) = value
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or("invalid key value pair format in driver options")?;
            attachment.driver_opts.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        "gw-priority" => {
            attachment.gw_priority =
                value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
        }
        other => return Err(format!("invalid field key {other}")),
    }
    Ok(())
}

/// An address as Go's `netip.ParseAddr` takes it.
///
/// # Errors
/// In Go's words.
pub(crate) fn address(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("ParseAddr({text:?}): unable to parse IP")),
    }
}

/// Whether a flag such as `--ip` has an address.
///
/// # Errors
/// In pflag's words.
pub(crate) fn check_ip(text: &str) -> Result<(), String> {
    text.trim().parse::<IpAddr>().map(drop).map_err(|_| format!("failed to parse IP: {text:?}"))
}

/// Whether the text is a hardware address of 6 bytes.
pub(crate) fn is_mac(text: &str) -> bool {
    let hex = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_hexdigit());
    [(':', 6, 2), ('-', 6, 2), ('.', 3, 4)].iter().any(|(separator, parts, digits)| {
        let all: Vec<&str> = text.split(*separator).collect();
        all.len() == *parts && all.iter().all(|part| hex(part, *digits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_docker_does() {
        assert_eq!(parse("host").unwrap().target, "host");
        assert_eq!(parse("container:web").unwrap().target, "container:web");
        let long = parse("name=Net,alias=a,alias=b,driver-opt=x=y,ip=10.0.0.2,ip6=fd00::2,link-local-ip=169.254.1.1,gw-priority=-3")
            .unwrap();
        assert_eq!((long.target.as_str(), long.aliases.len(), long.gw_priority), ("net", 2, -3));
        assert_eq!(
            (long.ipv4.as_str(), long.ipv6.as_str(), long.link_local.len()),
            ("10.0.0.2", "fd00::2", 1)
        );
        assert_eq!(long.driver_opts["x"], "y");
        assert_eq!(parse("alias=a").unwrap_err(), "network name/id is not specified");
        assert_eq!(parse("name=a,foo=b").unwrap_err(), "invalid field key foo");
        assert_eq!(parse("name=a,bar").unwrap_err(), "invalid field bar");
        assert_eq!(parse("name=a,ip=x").unwrap_err(), "ParseAddr(\"x\"): unable to parse IP");
    }

    #[test]
    fn hardware_addresses() {
        assert!(is_mac("92:d0:c6:0a:29:33") && is_mac("92-D0-c6-0a-29-33") && is_mac("92d0.c60a.2933"));
        assert!(!is_mac("92:d0:c6:0a:29") && !is_mac("x") && !is_mac("92:d0:c6:0a:29:3z"));
    }
}
