//! `--add-host`, `--dns`, `--dns-search`, `--link` (source: docker/cli `opts/hosts.go`, `opts/opts.go`).

use std::net::IpAddr;

/// `name:address` or `name=address`, in the form the API takes, `name:address`.
pub(crate) fn extra_host(text: &str) -> String {
    match split_host(text) {
        Some((name, address)) => {
            let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            format!("{name}:{bare}")
        }
        None => text.to_owned(),
    }
}

fn split_host(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').filter(|(name, _)| !name.contains(':')).or_else(|| text.split_once(':'))
}

/// Whether the text is a host for `--add-host`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_extra_host(text: &str) -> Result<(), String> {
    let Some((name, address)) = split_host(text).filter(|(name, _)| !name.is_empty()) else {
        return Err(format!("bad format for add-host: {text:?}"));
    };
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if name.is_empty() || (bare != "host-gateway" && bare.parse::<IpAddr>().is_err()) {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(())
}

/// Whether the text is an address for `--dns`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    text.trim()
        .parse::<IpAddr>()
        .map(drop)
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// Whether the text is a domain for `--dns-search`; `.` is none at all.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_search(text: &str) -> Result<(), String> {
    let domain = text.trim();
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !l.ends_with('-')
    };
    let has_letter = domain.bytes().any(|b| b.is_ascii_alphabetic());
    let fits =
        domain.len() <= 255 && has_letter && domain.strip_suffix('.').unwrap_or(domain).split('.').all(label);
    if domain == "." || fits { Ok(()) } else { Err(format!("{text} is not a valid domain")) }
}

/// Whether the text is a link, `name[:alias]`.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_link(text: &str) -> Result<(), String> {
    match text.split(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".to_owned()),
        1 | 2 => Ok(()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

/// Whether the text is one of the standard streams.
///
/// # Errors
/// In Docker's words.
pub(crate) fn check_stream(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_checked() {
        for good in ["a:1.2.3.4", "a=1.2.3.4", "a:::1", "a:[::1]", "a=::1", "a:host-gateway"] {
            assert_eq!(check_extra_host(good), Ok(()), "{good}");
        }
        assert_eq!(extra_host("a=[::1]"), "a:::1");
        assert_eq!(extra_host("a:1.2.3.4"), "a:1.2.3.4");
        assert_eq!(check_extra_host("a").unwrap_err(), "bad format for add-host: \"a\"");
        assert_eq!(check_extra_host("a:b").unwrap_err(), "invalid IP address in add-host: \"b\"");
    }

    #[test]
    fn names_and_links_are_checked() {
        assert!(check_search("example.com").is_ok() && check_search(".").is_ok());
        assert_eq!(check_search("a b").unwrap_err(), "a b is not a valid domain");
        assert_eq!(check_link("a:b:c").unwrap_err(), "bad format for links: a:b:c");
        assert!(check_link("a:b").is_ok() && check_link("").is_err());
        assert!(check_stream("STDIN").is_ok() && check_stream("x").is_err());
        assert_eq!(check_address("x").unwrap_err(), "IP address is not correctly formatted: x");
    }
}
