//! Credentials of registries (source: moby `api/types/registry/authconfig.go`).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Credentials, as headers carry them in base64url and a login in its body.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `user:password` in base64, in configuration files.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// The registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// A refresh token instead of a password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A bearer token to send as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl fmt::Debug for AuthConfig {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// The answer to a login.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthResponse {
    /// A token to keep instead of the password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_secrets() {
        let auth = AuthConfig { password: "hunter2".into(), username: "me".into(), ..Default::default() };
        let text = format!("{auth:?}");
        assert!(text.contains("me") && !text.contains("hunter2"));
    }
}
