//! Addresses: absolute `http` and `https` URLs, and how a `Location` is read against one.

use crate::{Error, endpoint::Scheme};
use std::{fmt, str::FromStr};

/// An absolute URL without user name, password and fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// Host with port if one was given: `[::1]:5000`.
    pub(crate) authority: String,
    /// From `/` on, with the query.
    pub(crate) target: String,
}

impl Url {
    /// The host without brackets and port.
    pub(crate) fn host(&self) -> &str {
        split_port(&self.authority).0
    }

    /// The port, the scheme's if none was given.
    pub(crate) fn port(&self) -> u16 {
        split_port(&self.authority).1.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// Whether credentials for the one may go to the other: same scheme, host and port.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }

    /// What a `Location` means here: an URL, a path from the root or a path from here.
    ///
    /// # Errors
    /// [`Error::Url`] when it is none of these.
    pub(crate) fn join(&self, location: &str) -> Result<Self, Error> {
        let location = location.split('#').next().unwrap_or_default();
        let relative = |target: String| format!("{}://{}{target}", self.scheme, self.authority).parse();
        if location.contains("://") && !location.starts_with('/') {
            return location.parse();
        }
        if location.starts_with("//") {
            return format!("{}:{location}", self.scheme).parse();
        }
        if location.starts_with('/') {
            return relative(location.to_owned());
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        relative(format!("{folder}{location}"))
    }

    /// The same URL with one more parameter, which is encoded here.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&encode_query(value));
        self
    }
}

/// Percent-encodes everything but what needs none in a query.
pub(crate) fn encode_query(value: &str) -> String {
    const SET: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(value, &SET).to_string()
}

/// Host without brackets, and port.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[')
        && let Some((host, port)) = rest.split_once(']')
    {
        return (host, port.strip_prefix(':').and_then(|p| p.parse().ok()));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

impl FromStr for Url {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || Error::Url(text.chars().take(200).collect());
        let uri: http::Uri = text.parse().map_err(|_| error())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(error()),
        };
        let authority = uri.authority().ok_or_else(error)?.as_str();
        if authority.contains('@') || authority.is_empty() {
            return Err(error());
        }
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { scheme, authority: authority.to_owned(), target })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base: Url = "https://r.example:5000/v2/a/blobs/x?y=1".parse().unwrap();
        for (location, result) in [
            ("http://other/z", "http://other/z"),
            ("/v2/b", "https://r.example:5000/v2/b"),
            ("next?n=1", "https://r.example:5000/v2/a/blobs/next?n=1"),
            ("//cdn.example/q#f", "https://cdn.example/q"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), result);
        }
        assert!(base.join("ftp://x/y").is_err() && base.join("http://u:p@x/y").is_err());
        assert!(base.join("http://x/ y").is_err());
    }

    #[test]
    fn origins_are_compared() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        assert!(url("https://a/x").same_origin(&url("https://A:443/y")));
        assert!(!url("https://a/x").same_origin(&url("http://a:443/x")));
        assert!(!url("https://a/x").same_origin(&url("https://a.b/x")));
        assert_eq!((url("http://[::1]:5000/").host(), url("http://[::1]/").port()), ("::1", 80));
    }
}
