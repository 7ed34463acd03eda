//! Searching: the one thing that is left of the first registry protocol.
//!
//! Source: moby `daemon/pkg/registry/search.go`, `search_session.go`, `search_endpoint_v1.go`.

use crate::{
    AuthConfig, Endpoint, Error, Registry,
    transport::{Answer, Credential, Outgoing},
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use std::time::Duration;
use wharf_spec::{DEFAULT_DOMAIN, ErrorKind};

const ANSWER_MAX: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const DEFAULT_LIMIT: i64 = 25;
const TOKEN_WANTED: HeaderName = HeaderName::from_static("x-docker-token");

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A term with a scheme.
    #[error("invalid repository name: repository name ({0}) should not have a scheme")]
    Scheme(String),
    /// Fewer than one result, or more than a hundred.
    #[error("limit {0} is outside the range of [1, 100]")]
    Limit(i64),
    /// A registry that must be encrypted does not answer.
    #[error(
        "invalid registry endpoint {endpoint}: {source}. If this private registry supports only HTTP or HTTPS with an unknown CA certificate, add `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if you have access to the registry's CA certificate, no need for the flag; place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
    )]
    Endpoint {
        /// Its URL.
        endpoint: String,
        /// Its host and port.
        host: String,
        /// Why.
        source: Error,
    },
    /// A registry that need not be encrypted does not answer either way.
    #[error("invalid registry endpoint {endpoint:?}. HTTPS attempt: {https}. HTTP attempt: {http}")]
    BothWays {
        /// Its URL.
        endpoint: String,
        /// Why not with encryption.
        https: Error,
        /// Why not without.
        http: Error,
    },
    /// The search itself failed.
    #[error(transparent)]
    Request(#[from] Error),
    /// The registry does not search, or not for us.
    #[error("unexpected status code {}", .0.as_u16())]
    Status(StatusCode),
    /// Its answer is none.
    #[error("error decoding registry search results: {0}")]
    Answer(serde_json::Error),
}

impl SearchError {
    /// What the error means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Scheme(_) | Self::Limit(_) | Self::Endpoint { .. } | Self::BothWays { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Request(error) => error.kind(),
            Self::Status(_) | Self::Answer(_) => ErrorKind::System,
        }
    }
}

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its short description.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether Docker cares for it.
    pub is_official: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Results {
    results: Option<Vec<Found>>,
}

impl Registry {
    /// Searches repositories: `term` at Docker Hub, `host/term` elsewhere. `limit` 0 is the default of 25.
    ///
    /// # Errors
    /// When the registry does not search or does not answer.
    pub async fn search(&self, term: &str, limit: i64, auth: &AuthConfig) -> Result<Vec<Found>, SearchError> {
        if term.contains("://") {
            return Err(SearchError::Scheme(term.to_owned()));
        }
        let (host, term) = split(term);
        let endpoint = self.reachable(self.index(host).await).await?;
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
        if !(1..=100).contains(&limit) {
            return Err(SearchError::Limit(limit));
        }
        let term = if endpoint.is_hub_index() { term.strip_prefix("library/").unwrap_or(term) } else { term };
        let url = endpoint.v1_url("search").with_query("q", term).with_query("n", &limit.to_string());
        let mut outgoing = Outgoing::new(Method::GET, url).of(&endpoint);
        outgoing.patience = PATIENCE;
        outgoing.headers.insert(TOKEN_WANTED, HeaderValue::from_static("true"));
        let answer = self.ask(&endpoint, outgoing, auth).await?;
        if answer.status() != StatusCode::OK {
            return Err(SearchError::Status(answer.status()));
        }
        let body = answer.bytes(ANSWER_MAX).await?;
        let results: Results = serde_json::from_slice(&body).map_err(SearchError::Answer)?;
        Ok(results.results.unwrap_or_default())
    }

    /// With a token for those who have an identity token, else with name and password if there are any.
    async fn ask(
        &self,
        endpoint: &Endpoint,
        mut outgoing: Outgoing,
        auth: &AuthConfig,
    ) -> Result<Answer, Error> {
        if !auth.identitytoken.is_empty() && !auth.username.is_empty() {
            let exchange = self.open(endpoint, auth, "registry:catalog:search".to_owned()).await?;
            return exchange.send(outgoing, &[]).await;
        }
        let value = auth.basic_header().and_then(|text| HeaderValue::from_str(&text).ok());
        let credential = value.map(|mut value| {
            value.set_sensitive(true);
            Credential { origin: endpoint.base.clone(), value }
        });
        self.inner.transport.fetch(&mut outgoing, credential.as_ref()).await
    }

    /// The endpoint, with or without encryption, as it answers to a ping.
    async fn reachable(&self, endpoint: Endpoint) -> Result<Endpoint, SearchError> {
        if endpoint.is_hub_index() {
            return Ok(endpoint);
        }
        let shown = |endpoint: &Endpoint| endpoint.v1_url("").to_string();
        let Err(https) = self.ping_v1(&endpoint).await else { return Ok(endpoint) };
        if !endpoint.is_insecure() {
            let (text, host) = (shown(&endpoint), endpoint.authority().to_owned());
            return Err(SearchError::Endpoint { endpoint: text, host, source: https });
        }
        let plain = endpoint.plain();
        match self.ping_v1(&plain).await {
            Ok(()) => Ok(plain),
            Err(http) => Err(SearchError::BothWays { endpoint: shown(&plain), https, http }),
        }
    }

    /// Whatever it answers, it answers.
    async fn ping_v1(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let mut outgoing = Outgoing::new(Method::GET, endpoint.v1_url("_ping")).of(endpoint);
        outgoing.patience = PATIENCE;
        let answer = self.inner.transport.fetch(&mut outgoing, None).await?;
        // Read so that the connection can be used again.
        let _ = answer.bytes(ANSWER_MAX).await;
        Ok(())
    }
}

/// Host and term. The first part is a host when it looks like one.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => (DEFAULT_DOMAIN, term),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_terms() {
        assert_eq!(split("busybox"), ("docker.io", "busybox"));
        assert_eq!(split("library/busybox"), ("docker.io", "library/busybox"));
        assert_eq!(split("localhost/a/b"), ("localhost", "a/b"));
        assert_eq!(split("127.0.0.1:5000/a"), ("127.0.0.1:5000", "a"));
    }
}
