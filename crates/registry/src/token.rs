//! Meeting a challenge: bearer tokens from token servers, and basic authentication.
//!
//! Source: distribution `docs/spec/auth/token.md`, `docs/spec/auth/oauth.md`,
//! `registry/client/auth/session.go`.

use crate::{
    AuthConfig, Error,
    challenge::Challenge,
    endpoint::{Endpoint, Scheme},
    error::error_of_response,
    transport::{Credential, Outgoing, Payload, Transport},
    url::{Url, encode_query},
};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Tokens live at least this long (source: token.md, "expires_in").
const LIFETIME_MIN: u64 = 60;
const LIFETIME_MAX: u64 = 24 * 60 * 60;
/// Tokens are not used in their last seconds.
const MARGIN: Duration = Duration::from_secs(5);
const RESPONSE_MAX: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(15);
const KEPT_MAX: usize = 256;
const CLIENT_ID: &str = "docker";

/// Who wants what from which endpoint.
pub(crate) struct Wish<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) auth: &'a AuthConfig,
    /// `repository:library/busybox:pull`, ...; empty to log in.
    pub(crate) scopes: &'a [String],
    /// A token that lives on is wanted as well (log in).
    pub(crate) offline: bool,
}

/// What a token server gave.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) value: HeaderValue,
    /// For later, if one was asked for.
    pub(crate) refresh: String,
    expires: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Tokens by server, scope and user.
#[derive(Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<[u8; 32], Slot>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<i64>,
}

impl Tokens {
    /// The credential that meets one of the challenges; `None` when nothing was asked for.
    pub(crate) async fn credential(
        &self,
        transport: &Transport,
        challenges: &[Challenge],
        wish: &Wish<'_>,
    ) -> Result<Option<Credential>, Error> {
        let origin = wish.endpoint.base.clone();
        let of_scheme = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let Some(bearer) = of_scheme("bearer") {
            let value = if wish.auth.registrytoken.is_empty() {
                self.token(transport, bearer, wish).await?.value
            } else {
                secret(&format!("Bearer {}", wish.auth.registrytoken))?
            };
            return Ok(Some(Credential { origin, value }));
        }
        if of_scheme("basic").is_some() {
            let value = secret(&wish.auth.basic_header().ok_or(Error::NoCredentials)?)?;
            return Ok(Some(Credential { origin, value }));
        }
        Ok(None)
    }

    /// The token for a challenge, from memory if it still lives.
    pub(crate) async fn token(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        wish: &Wish<'_>,
    ) -> Result<Token, Error> {
        let slot = self.slot(challenge, wish);
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref().filter(|t| t.expires > Instant::now() + MARGIN) {
            return Ok(token.clone());
        }
        let token = fetch(transport, challenge, wish).await?;
        *slot = Some(token.clone());
        Ok(token)
    }

    /// Forgets the tokens for a challenge: the registry does not take them any more.
    pub(crate) async fn forget(&self, challenges: &[Challenge], wish: &Wish<'_>) {
        for challenge in challenges {
            *self.slot(challenge, wish).lock().await = None;
        }
    }

    fn slot(&self, challenge: &Challenge, wish: &Wish<'_>) -> Slot {
        let auth = wish.auth;
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let scopes = wish.scopes.join(" ");
        let parts = [
            challenge.parameter("realm"),
            challenge.parameter("service"),
            &scopes,
            &auth.username,
            &auth.password,
            &auth.identitytoken,
            if wish.offline { "offline" } else { "" },
        ];
        for part in parts {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT_MAX {
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

/// A header value that is not shown in debug output.
fn secret(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::NoToken)?;
    value.set_sensitive(true);
    Ok(value)
}

async fn fetch(transport: &Transport, challenge: &Challenge, wish: &Wish<'_>) -> Result<Token, Error> {
    let realm = challenge.parameter("realm");
    let url: Url = realm.parse().map_err(|_| Error::Realm(realm.to_owned()))?;
    let credentials = wish.auth.basic().is_some() || !wish.auth.identitytoken.is_empty();
    if credentials && url.scheme == Scheme::Http && !wish.endpoint.is_insecure() {
        return Err(Error::Realm(format!("{realm} is not encrypted")));
    }
    let (outgoing, credential) = if wish.auth.identitytoken.is_empty() {
        get_request(url, challenge, wish)?
    } else {
        (oauth_request(url, challenge, wish), None)
    };
    let mut outgoing = outgoing.of(wish.endpoint);
    outgoing.patience = PATIENCE;
    let answer = transport.fetch(&mut outgoing, credential.as_ref()).await?;
    let status = answer.status();
    let content_type = answer.header(header::CONTENT_TYPE).to_owned();
    let body = answer.bytes(RESPONSE_MAX).await?;
    if !status.is_success() {
        return Err(error_of_response(status, &content_type, &body));
    }
    read_token(&body)
}

fn read_token(body: &[u8]) -> Result<Token, Error> {
    let response: TokenResponse = serde_json::from_slice(body).map_err(Error::TokenResponse)?;
    let token = [response.access_token, response.token].into_iter().flatten().find(|t| !t.is_empty());
    let value = secret(&format!("Bearer {}", token.ok_or(Error::NoToken)?))?;
    let lifetime =
        u64::try_from(response.expires_in.unwrap_or(0)).unwrap_or(0).clamp(LIFETIME_MIN, LIFETIME_MAX);
    let expires = Instant::now() + Duration::from_secs(lifetime);
    Ok(Token { value, refresh: response.refresh_token.unwrap_or_default(), expires })
}

fn get_request(
    mut url: Url,
    challenge: &Challenge,
    wish: &Wish<'_>,
) -> Result<(Outgoing, Option<Credential>), Error> {
    let origin = url.clone();
    if let Some((name, _)) = wish.auth.basic() {
        url = url.with_query("account", name);
    }
    if wish.offline {
        url = url.with_query("client_id", CLIENT_ID).with_query("offline_token", "true");
    }
    for scope in wish.scopes {
        url = url.with_query("scope", scope);
    }
    if !challenge.parameter("service").is_empty() {
        url = url.with_query("service", challenge.parameter("service"));
    }
    let credential = match wish.auth.basic_header() {
        Some(header) => Some(Credential { origin, value: secret(&header)? }),
        None => None,
    };
    Ok((Outgoing::new(Method::GET, url), credential))
}

fn oauth_request(url: Url, challenge: &Challenge, wish: &Wish<'_>) -> Outgoing {
    let scopes = wish.scopes.join(" ");
    let fields = [
        ("client_id", CLIENT_ID),
        ("grant_type", "refresh_token"),
        ("refresh_token", &wish.auth.identitytoken),
        ("scope", &scopes),
        ("service", challenge.parameter("service")),
    ];
    let form: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", encode_query(value))).collect();
    let mut outgoing = Outgoing::new(Method::POST, url);
    outgoing.payload = Payload::Bytes(Bytes::from(form.join("&")));
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    outgoing.headers.insert(header::CONTENT_TYPE, kind);
    outgoing
}
