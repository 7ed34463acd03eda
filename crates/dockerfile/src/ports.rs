//! What `EXPOSE` takes: `80`, `80-90/udp`, and of old `[[ip:]host:]container` (source: moby
//! `daemon/builder/dockerfile/dispatchers.go`, `parsePortSpec`).

use crate::{Error, Result};
use std::net::IpAddr;

/// The ports of the container, `80/tcp` each.
pub(crate) fn parse(spec: &str) -> Result<Vec<String>> {
    let wrong = |text: String| Error::Port(text);
    let parts: Vec<&str> = spec.split(':').collect();
    let (container, rest) = parts.split_last().expect("split gives one part at least");
    let (host, ip) = rest.split_last().map_or(("", String::new()), |(host, ip)| (*host, ip.join(":")));
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(wrong(format!("no port specified: {spec}<empty>")));
    }
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong(format!("invalid proto: {protocol}")));
    }
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(&ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(wrong(format!("invalid IP address: ParseAddr({ip:?}): unable to parse IP")));
    }
    let (first, last) = self::range(range).ok_or_else(|| wrong(format!("invalid containerPort: {range}")))?;
    if !host.is_empty() {
        let (start, end) = self::range(host).ok_or_else(|| wrong(format!("invalid hostPort: {host}")))?;
        if last != first && last - first != end - start {
            return Err(wrong(format!(
                "invalid ranges specified for container and host Ports: {range} and {host}"
            )));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}
