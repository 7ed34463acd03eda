//! Names and random ids of the engine's objects, parsed at the edge.

use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// Why a text is no id or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not 64 lower-case hex characters.
    #[error("invalid id {0:?}: 64 hexadecimal characters expected")]
    Id(String),
    /// Not `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    ContainerName(String),
    /// Not `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, in Docker's words for volumes.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
}

/// Docker's `RestrictedNamePattern`, `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`
/// (source: moby `daemon/names/names.go`).
fn is_restricted_name(s: &str) -> bool {
    let mut bytes = s.bytes();
    s.len() >= 2
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        text_newtype!($(#[$doc])* $name);
        impl $name {
            /// An id of 32 random bytes. The caller brings the randomness, since this crate does no I/O.
            pub fn from_random(raw: [u8; 32]) -> Self {
                Self(crate::Digest::from_bytes(raw).hex().into())
            }
            /// The first 12 characters, as lists show them.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                match crate::Digest::from_hex(s) {
                    Ok(_) => Ok(Self(s.into())),
                    Err(_) => Err(ParseIdError::Id(s.chars().take(80).collect())),
                }
            }
        }
    };
}

random_id!(
    /// A container: 64 hex characters.
    ContainerId
);
random_id!(
    /// A network: 64 hex characters.
    NetworkId
);
random_id!(
    /// A container's attachment to a network: 64 hex characters.
    EndpointId
);
random_id!(
    /// A process started in a running container: 64 hex characters.
    ExecId
);

text_newtype!(
    /// A container's name, without the leading slash that the API shows.
    ContainerName
);

impl FromStr for ContainerName {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let name = s.strip_prefix('/').unwrap_or(s);
        if is_restricted_name(name) {
            Ok(Self(name.into()))
        } else {
            Err(ParseIdError::ContainerName(s.into()))
        }
    }
}

text_newtype!(
    /// A volume's name.
    VolumeName
);

impl VolumeName {
    /// The name of an anonymous volume, made of 32 random bytes.
    pub fn from_random(raw: [u8; 32]) -> Self {
        Self(crate::Digest::from_bytes(raw).hex().into())
    }
}

impl FromStr for VolumeName {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if is_restricted_name(s) { Ok(Self(s.into())) } else { Err(ParseIdError::VolumeName(s.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_pattern() {
        for good in ["web", "a1", "A.b-c_d", "/web"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-bad", "a b", "a/b", "é1", ".x", "//web"] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
        assert_eq!("/web".parse::<ContainerName>().unwrap().as_str(), "web");
    }

    #[test]
    fn ids_are_64_hex() {
        let id = ContainerId::from_random([0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(id.as_str().parse::<ContainerId>().unwrap(), id);
        assert!("abc".parse::<ContainerId>().is_err());
        assert!("AB".repeat(32).parse::<ContainerId>().is_err());
    }
}
