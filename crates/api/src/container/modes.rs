//! The modes of namespaces: texts with a meaning, kept as the client wrote them
//! (source: moby `api/types/container/hostconfig.go`).

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! mode {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text as given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// Whether nothing was asked for.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
            /// The name or id after `container:`, which may be empty.
            pub fn container(&self) -> Option<&str> {
                self.0.strip_prefix("container:")
            }
            /// Whether the host's own is to be used.
            pub fn is_host(&self) -> bool {
                self.0 == "host"
            }
        }
        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.to_owned())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

mode!(
    /// Network: `default`, `bridge`, `host`, `none`, `container:<id>` or a network's name or id.
    NetworkMode
);
mode!(
    /// System V IPC and `/dev/shm`: `none`, `host`, `private`, `shareable`, `container:<id>`.
    IpcMode
);
mode!(
    /// Processes: empty, `host` or `container:<id>`.
    PidMode
);
mode!(
    /// Host name: empty or `host`.
    UtsMode
);
mode!(
    /// Users: empty or `host`.
    UsernsMode
);
mode!(
    /// Cgroup namespace: empty, `private` or `host`.
    CgroupnsMode
);
mode!(
    /// Cgroup: empty or `container:<id>`.
    CgroupSpec
);

impl NetworkMode {
    /// `default`, or nothing at all.
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }
    /// `bridge`.
    pub fn is_bridge(&self) -> bool {
        self.0 == "bridge"
    }
    /// `none`.
    pub fn is_none(&self) -> bool {
        self.0 == "none"
    }
    /// Neither the host's network nor another container's.
    pub fn is_private(&self) -> bool {
        !self.is_host() && self.container().is_none()
    }
    /// A network that somebody made.
    pub fn is_user_defined(&self) -> bool {
        !self.is_default() && !self.is_bridge() && !self.is_none() && self.is_private()
    }
    /// The network's name: the mode itself, or `container`.
    pub fn network_name(&self) -> &str {
        if self.container().is_some() { "container" } else { &self.0 }
    }
}

impl IpcMode {
    /// Whether the text is one of the modes.
    pub fn is_valid(&self) -> bool {
        matches!(self.0.as_str(), "" | "none" | "private" | "host" | "shareable")
            || self.container().is_some()
    }
}

impl PidMode {
    /// Whether the text is one of the modes.
    pub fn is_valid(&self) -> bool {
        self.is_empty() || self.is_host() || self.container().is_some_and(|id| !id.is_empty())
    }
}

impl UtsMode {
    /// Whether the text is one of the modes.
    pub fn is_valid(&self) -> bool {
        self.is_empty() || self.is_host()
    }
}

impl UsernsMode {
    /// Whether the text is one of the modes.
    pub fn is_valid(&self) -> bool {
        self.is_empty() || self.is_host()
    }
}

impl CgroupnsMode {
    /// Whether the text is one of the modes.
    pub fn is_valid(&self) -> bool {
        self.is_empty() || self.is_host() || self.0 == "private"
    }
}

impl CgroupSpec {
    /// Whether the text is one of the modes.
    pub fn is_valid(&self) -> bool {
        self.is_empty() || self.container().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_modes() {
        let mode = NetworkMode::from;
        assert!(mode("acnet").is_user_defined() && mode("acnet").is_private());
        for builtin in ["default", "bridge", "host", "none", "container:x"] {
            assert!(!mode(builtin).is_user_defined(), "{builtin}");
        }
        assert_eq!(mode("container:abc").container(), Some("abc"));
        assert_eq!(mode("container:abc").network_name(), "container");
    }

    #[test]
    fn validity() {
        assert!(IpcMode::from("container:").is_valid() && !IpcMode::from("weird").is_valid());
        assert!(!PidMode::from("container:").is_valid() && PidMode::from("host").is_valid());
        assert!(!CgroupnsMode::from("shared").is_valid());
    }
}
