//! Content digests and the ids made of them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// No `algorithm:hex` form.
    #[error("invalid checksum digest format")]
    Format,
    /// An algorithm other than sha256.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// The hex part has the wrong length for sha256 (64).
    #[error("invalid checksum digest length")]
    Length,
}

/// A SHA-256 digest, written `sha256:<64 lower-case hex>`
/// (source: OCI image-spec, descriptor.md, "Digests"). Other algorithms are refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest whose 32 raw bytes are given.
    pub const fn from_bytes(raw: [u8; 32]) -> Self {
        Self(raw)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex characters, without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// Parses the 64 hex characters of a file name.
    ///
    /// # Errors
    /// When they are not 64 lower-case hex characters.
    pub fn from_hex(hex: &str) -> Result<Self, ParseDigestError> {
        if hex.len() != 64 {
            return Err(ParseDigestError::Length);
        }
        let mut raw = [0; 32];
        for (byte, pair) in raw.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(raw))
    }
}

fn nibble(c: u8) -> Result<u8, ParseDigestError> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(ParseDigestError::Format),
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex),
            Some((algorithm, hex)) if !algorithm.is_empty() && !hex.is_empty() => {
                Err(ParseDigestError::Algorithm)
            }
            _ => Err(ParseDigestError::Format),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// The 64 hex characters, as in file names.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }
        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }
        impl FromStr for $name {
            type Err = ParseDigestError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

digest_newtype!(
    /// An image: the digest of its config.
    ImageId
);
digest_newtype!(
    /// A layer's uncompressed tar stream.
    DiffId
);
digest_newtype!(
    /// A stack of layers (source: OCI image-spec, config.md, "Layer ChainID"). It is computed by
    /// `store`, which has SHA-256.
    ChainId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip_and_bad_ones_are_refused() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        assert_eq!("sha256:12".parse::<Digest>(), Err(ParseDigestError::Length));
        assert_eq!("sha256".parse::<Digest>(), Err(ParseDigestError::Format));
        assert_eq!(":".parse::<Digest>(), Err(ParseDigestError::Format));
        assert_eq!(format!("sha512:{}", "a".repeat(128)).parse::<Digest>(), Err(ParseDigestError::Algorithm));
        assert_eq!(format!("sha256:{}", "A".repeat(64)).parse::<Digest>(), Err(ParseDigestError::Format));
        assert_eq!(format!("sha256:{}é", "a".repeat(62)).parse::<Digest>(), Err(ParseDigestError::Format));
    }
}
