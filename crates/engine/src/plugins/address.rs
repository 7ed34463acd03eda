//! Where a plugin listens.

use crate::{Error, Result};
use std::path::PathBuf;

/// Where a plugin listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Address {
    /// From `unix:///run/x.sock`, `tcp://host:port` or `http://host:port`.
    ///
    /// # Errors
    /// For other schemes, and none.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| Error::Refused("Unknown protocol".into()))?;
        match scheme {
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" => Ok(Self::Tcp(rest.split('/').next().unwrap_or(rest).to_owned())),
            "https" => Err(Error::NotImplemented("a plugin behind TLS")),
            _ => Err(Error::Refused(format!("unsupported protocol scheme {scheme:?} of a plugin"))),
        }
    }

    /// What requests name as their host (source: moby `pkg/plugins/client.go`, dummyHost).
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "plugin.moby.localhost",
            Self::Tcp(address) => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_specs() {
        assert_eq!(Address::parse(" unix:///run/p.sock\n").unwrap(), Address::Unix("/run/p.sock".into()));
        assert_eq!(Address::parse("tcp://127.0.0.1:7/x").unwrap(), Address::Tcp("127.0.0.1:7".into()));
        assert_eq!(Address::parse("/run/p.sock").unwrap_err().to_string(), "Unknown protocol");
        assert!(Address::parse("https://there").is_err() && Address::parse("npipe://x").is_err());
    }
}
