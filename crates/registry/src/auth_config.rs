//! What a client says about who it is: `X-Registry-Auth`.
//!
//! Source: moby `api/types/registry/authconfig.go`, `api/pkg/authconfig`.

use base64::{Engine as _, alphabet, engine};
use serde::{Deserialize, Serialize};
use std::fmt;
use wharf_spec::ErrorKind;

/// A name and password, or a token, for one registry.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `base64(username:password)`, as in `config.json`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// Of the old registry protocol, unused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Which registry it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// A refresh token for the registry's token server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// A bearer token to be sent as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

/// Why a header is none.
#[derive(Debug, thiserror::Error)]
pub enum DecodeAuthError {
    /// Not base64.
    #[error("invalid X-Registry-Auth header: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not the JSON of an [`AuthConfig`].
    #[error("invalid X-Registry-Auth header: {0}")]
    Json(#[from] serde_json::Error),
}

impl DecodeAuthError {
    /// What it means to a client: the request is wrong.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Base64 with or without `=` at the end.
const LENIENT: engine::GeneralPurposeConfig = engine::GeneralPurposeConfig::new()
    .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const URL_SAFE: engine::GeneralPurpose = engine::GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: engine::GeneralPurpose = engine::GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

impl AuthConfig {
    /// Reads the value of `X-Registry-Auth`: base64url of JSON. An empty value is an empty config.
    ///
    /// # Errors
    /// When it is neither. Docker ignores that on pull, not on push.
    pub fn from_header(value: &str) -> Result<Self, DecodeAuthError> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        let mut config: Self = serde_json::from_slice(&URL_SAFE.decode(value)?)?;
        config.fill_from_auth();
        Ok(config)
    }

    /// The value of `X-Registry-Auth`.
    pub fn to_header(&self) -> String {
        let json = serde_json::to_vec(self).expect("an AuthConfig is plain strings");
        base64::engine::general_purpose::URL_SAFE.encode(json)
    }

    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.identitytoken.is_empty()
            && self.registrytoken.is_empty()
    }

    /// With name and password from the `auth` field where they are missing.
    pub fn completed(mut self) -> Self {
        self.fill_from_auth();
        self
    }

    pub(crate) fn fill_from_auth(&mut self) {
        if !self.username.is_empty() || self.auth.is_empty() {
            return;
        }
        let decoded = STANDARD.decode(&self.auth).ok().and_then(|raw| String::from_utf8(raw).ok());
        if let Some((name, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
            self.username = name.to_owned();
            self.password = password.trim_end_matches('\0').to_owned();
        }
        self.auth.clear();
    }

    /// Name and password, if both are there.
    pub(crate) fn basic(&self) -> Option<(&str, &str)> {
        (!self.username.is_empty() && !self.password.is_empty())
            .then_some((self.username.as_str(), self.password.as_str()))
    }

    /// The value of `Authorization: Basic`.
    pub(crate) fn basic_header(&self) -> Option<String> {
        let (name, password) = self.basic()?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        Some(format!("Basic {encoded}"))
    }
}

/// Secrets do not belong in logs.
impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let auth = AuthConfig { username: "u".into(), password: "p?>~".into(), ..AuthConfig::default() };
        assert_eq!(AuthConfig::from_header(&auth.to_header()).unwrap(), auth);
        assert_eq!(AuthConfig::from_header(auth.to_header().trim_end_matches('=')).unwrap(), auth);
        assert!(AuthConfig::from_header("").unwrap().is_empty());
        assert!(AuthConfig::from_header("e30=").unwrap().is_empty());
        assert!(AuthConfig::from_header("!").is_err());
        assert!(AuthConfig::from_header("bm90IGpzb24").is_err());
    }

    #[test]
    fn the_auth_field_is_name_and_password() {
        let header = base64::engine::general_purpose::URL_SAFE.encode(r#"{"auth":"dXNlcjpwOnc="}"#);
        let auth = AuthConfig::from_header(&header).unwrap();
        assert_eq!(auth.basic(), Some(("user", "p:w")));
        assert_eq!(auth.basic_header().unwrap(), "Basic dXNlcjpwOnc=");
        assert!(!format!("{auth:?}").contains("p:w"));
    }
}
