//! API version numbers.

use crate::Error;
use std::{fmt, str::FromStr};

/// A version of the Engine API such as 1.47. Versions are compared number by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(
    /// Major: always 1 so far.
    pub u32,
    /// Minor.
    pub u32,
);

impl Version {
    /// The oldest version served (moby `daemon/config/config.go`, `MinAPIVersion`).
    pub const MIN: Self = Self(1, 24);
    /// The newest version served.
    pub const MAX: Self = Self(1, 55);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Parses as moby's `versions.compare` does: missing or unreadable parts are zero, parts after the
    /// second do not matter.
    fn from_str(s: &str) -> Result<Self, Error> {
        if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(Error::Version(s.chars().take(40).collect()));
        }
        let mut parts = s.split('.').map(|part| part.parse().unwrap_or(0));
        Ok(Self(parts.next().unwrap_or(0), parts.next().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!("1.9".parse::<Version>().unwrap() < "1.24".parse().unwrap());
        assert!("1.100".parse::<Version>().unwrap() > Version::MAX);
        assert_eq!("1.41".parse::<Version>().unwrap(), Version(1, 41));
        assert_eq!("1..41".parse::<Version>().unwrap(), Version(1, 0));
        assert_eq!(Version(1, 41).to_string(), "1.41");
        assert!("v1.4".parse::<Version>().is_err());
        assert!("".parse::<Version>().is_err());
    }
}
