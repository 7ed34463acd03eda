//! The networks of `docker run`: `--network` with the flags that belong to the first one
//! (source: docker/cli `cli/command/container/opts.go`, `parseNetworkOpts`).

use crate::{
    flags::Matches,
    opts::network::{self, Attachment},
};
use std::collections::BTreeMap;
use wharf_api::{
    container::NetworkMode,
    network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig},
};

type Parsed<T> = Result<T, String>;

/// The network mode and the endpoints.
///
/// # Errors
/// In Docker's words.
pub(crate) fn endpoints(m: &Matches) -> Parsed<(String, NetworkingConfig)> {
    if !m.text("mac-address").is_empty() && !network::is_mac(m.text("mac-address").trim()) {
        return Err(format!("{} is not a valid mac address", m.text("mac-address")));
    }
    let mut attachments =
        m.all("network").iter().map(|text| network::parse(text)).collect::<Parsed<Vec<_>>>()?;
    let none_given = attachments.is_empty();
    if none_given {
        attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    let mode = attachments[0].target.clone();
    let only_one = attachments.len() == 1;
    let mut endpoints = BTreeMap::new();
    let (mut user_defined, mut predefined) = (false, false);
    for (at, mut attachment) in attachments.into_iter().enumerate() {
        if is_user_defined(&attachment.target) {
            user_defined = true
        } else {
            predefined = true
        }
        if at == 0 {
            apply_flags(&mut attachment, m)?;
        }
        let settings = settings(&attachment)?;
        if endpoints.contains_key(&attachment.target) {
            return Err(format!("network {:?} is specified multiple times", attachment.target));
        }
        // The daemon makes the endpoint of a single network without options by itself.
        if !only_one || none_given || settings != EndpointSettings::default() {
            endpoints.insert(attachment.target, settings);
        }
    }
    if user_defined && predefined && !none_given {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                .to_owned(),
        );
    }
    Ok((mode, NetworkingConfig { endpoints_config: Some(endpoints) }))
}

fn is_user_defined(target: &str) -> bool {
    NetworkMode(target.to_owned()).is_user_defined()
}

/// `--network-alias`, `--link`, `--ip`, `--ip6`, `--mac-address` and `--link-local-ip` are the first network's.
fn apply_flags(attachment: &mut Attachment, m: &Matches) -> Parsed<()> {
    let conflict = |flag: &str, what: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    let given = |flag: &str| !m.text(flag).is_empty();
    if !attachment.aliases.is_empty() && given("network-alias") {
        return conflict("network-alias", "alias");
    }
    if !attachment.ipv4.is_empty() && given("ip") {
        return conflict("ip", "IPv4 address");
    }
    if !attachment.ipv6.is_empty() && given("ip6") {
        return conflict("ip6", "IPv6 address");
    }
    if !attachment.mac.is_empty() && given("mac-address") {
        return conflict("mac-address", "MAC address");
    }
    if !attachment.link_local.is_empty() && given("link-local-ip") {
        return conflict("link-local-ip", "link-local IP addresses");
    }
    let set = |field: &mut String, flag: &str| {
        if given(flag) {
            m.text(flag).trim().clone_into(field);
        }
    };
    set(&mut attachment.ipv4, "ip");
    set(&mut attachment.ipv6, "ip6");
    set(&mut attachment.mac, "mac-address");
    attachment.aliases.extend_from_slice(m.all("network-alias"));
    attachment.link_local.extend_from_slice(m.all("link-local-ip"));
    if is_user_defined(&attachment.target) {
        attachment.links.extend_from_slice(m.all("link"));
    }
    Ok(())
}

/// The settings of one endpoint.
///
/// # Errors
/// In Docker's words.
pub(crate) fn settings(attachment: &Attachment) -> Parsed<EndpointSettings> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&attachment.target) {
        if !attachment.aliases.is_empty() {
            return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        if !attachment.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let has_address =
        !attachment.ipv4.is_empty() || !attachment.ipv6.is_empty() || !attachment.link_local.is_empty();
    if !attachment.mac.is_empty() && !network::is_mac(&attachment.mac) {
        return Err(format!("{} is not a valid mac address", attachment.mac));
    }
    Ok(EndpointSettings {
        ipam_config: has_address.then(|| EndpointIpamConfig {
            ipv4_address: attachment.ipv4.clone(),
            ipv6_address: attachment.ipv6.clone(),
            link_local_ips: some(&attachment.link_local),
        }),
        links: some(&attachment.links),
        aliases: some(&attachment.aliases),
        driver_opts: (!attachment.driver_opts.is_empty()).then(|| attachment.driver_opts.clone()),
        gw_priority: attachment.gw_priority,
        mac_address: attachment.mac.clone(),
        ..EndpointSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::container::run, flags::Parser};

    fn parse(line: &str) -> Parsed<(String, BTreeMap<String, EndpointSettings>)> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let parser = Parser { flags: run::COMMAND.flags, interspersed: false };
        let (mode, config) = endpoints(&parser.parse(&words).map_err(|e| e.to_string())?)?;
        Ok((mode, config.endpoints_config.unwrap()))
    }

    #[test]
    fn the_first_network_gets_the_flags() {
        let (mode, all) =
            parse("--network a --network name=b,alias=y --network-alias x --ip 10.0.0.2 img").unwrap();
        assert_eq!((mode.as_str(), all.len()), ("a", 2));
        assert_eq!(all["a"].aliases.as_deref(), Some(&["x".to_owned()][..]));
        assert_eq!(all["a"].ipam_config.as_ref().unwrap().ipv4_address, "10.0.0.2");
        assert_eq!(all["b"].aliases.as_deref(), Some(&["y".to_owned()][..]));
        assert!(parse("--network a img").unwrap().1.is_empty());
        assert_eq!(parse("img").unwrap().1.len(), 1);
    }

    #[test]
    fn contradictions_are_refused() {
        for (line, error) in [
            ("--network a --network a i", "network \"a\" is specified multiple times"),
            (
                "--network a --network host i",
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            ("--network-alias x i", "network-scoped aliases are only supported for user-defined networks"),
            (
                "--network name=a,alias=y --network-alias x i",
                "conflicting options: cannot specify both --network-alias and per-network alias",
            ),
            (
                "--network name=a,ip=10.0.0.1 --ip 10.0.0.2 i",
                "conflicting options: cannot specify both --ip and per-network IPv4 address",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }
}
