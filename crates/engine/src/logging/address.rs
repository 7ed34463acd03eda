//! Addresses of receivers: `tcp://host:port`, `unix:///path`.

/// A URL's scheme, authority and path. Without a scheme it is none.
pub(super) fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

/// Host and port of an authority; the port empty when there is none.
pub(super) fn host_and_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        _ => (authority, ""),
    }
}

/// The host without the brackets of an IPv6 address.
pub(super) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_cut() {
        assert_eq!(split("tcp://h:1"), Some(("tcp", "h:1", "")));
        assert_eq!(split("unix:///a/b"), Some(("unix", "", "/a/b")));
        assert_eq!(split("h:1"), None);
        assert_eq!(host_and_port("h:1"), ("h", "1"));
        assert_eq!(host_and_port("h"), ("h", ""));
        assert_eq!(host_and_port("[::1]:5"), ("[::1]", "5"));
        assert_eq!(host_and_port("[::1]"), ("[::1]", ""));
        assert_eq!(bare_host("[::1]"), "::1");
    }
}
