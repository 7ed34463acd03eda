//! Logging in: whether a registry takes a name and password.
//!
//! Source: moby `daemon/pkg/registry/auth.go` (`loginV2`), `service.go` (`Auth`).

use crate::{
    AuthConfig, DOCKER_HUB_AUTH_KEY, Endpoint, Error, Registry, error::ApiError, exchange::read_error,
    token::Wish,
};
use http::{Method, StatusCode};
use wharf_spec::{DEFAULT_DOMAIN, ErrorKind};

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry says no.
    #[error("{0}")]
    Refused(Error),
    /// There is no registry, or it does not speak to us.
    #[error("{0}")]
    Failed(Error),
    /// Another status than yes or no.
    #[error("login attempt to {url} failed with status: {status}")]
    Status {
        /// Where.
        url: String,
        /// What it said.
        status: StatusCode,
    },
}

impl LoginError {
    /// What the error means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) => ErrorKind::Unauthorized,
            Self::Failed(_) | Self::Status { .. } => ErrorKind::System,
        }
    }
}

impl Registry {
    /// Checks a credential at its registry and gives the identity token, if the registry issues one (else an
    /// empty text).
    ///
    /// # Errors
    /// When the registry refuses the credential or does not answer.
    pub async fn login(&self, auth: &AuthConfig) -> Result<String, LoginError> {
        let domain = domain_of(&auth.serveraddress);
        let endpoints = self.login_endpoints(&domain).await;
        let mut last = LoginError::Failed(Error::NoEndpoint(domain));
        for endpoint in &endpoints {
            match self.login_at(endpoint, auth).await {
                Err(LoginError::Failed(error)) if !error.proves_transport() => {
                    last = LoginError::Failed(error)
                }
                result => return result,
            }
        }
        Err(last)
    }

    async fn login_at(&self, endpoint: &Endpoint, auth: &AuthConfig) -> Result<String, LoginError> {
        let exchange = self.open(endpoint, auth, String::new()).await.map_err(sort)?;
        let challenges = exchange.wanted();
        let mut identity = String::new();
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            let wish = Wish { endpoint, auth, scopes: &[], offline: true };
            let token = self.inner.tokens.token(&self.inner.transport, bearer, &wish).await.map_err(sort)?;
            identity = token.refresh;
        }
        let url = endpoint.url("");
        let outgoing = exchange.outgoing(Method::GET, url.clone());
        let answer = exchange.send(outgoing, &[]).await.map_err(sort)?;
        match answer.status() {
            StatusCode::OK => Ok(identity),
            StatusCode::UNAUTHORIZED => Err(sort(read_error(answer).await)),
            status => Err(LoginError::Status { url: url.to_string(), status }),
        }
    }
}

fn sort(error: Error) -> LoginError {
    let refusal = |errors: &[ApiError]| errors.first().is_some_and(|e| e.code == "UNAUTHORIZED");
    match &error {
        Error::NoCredentials => LoginError::Refused(error),
        Error::Api(errors) if refusal(errors) => LoginError::Refused(error),
        Error::Auth { source, .. } => match source.as_ref() {
            Error::NoCredentials => LoginError::Refused(error),
            Error::Api(errors) if refusal(errors) => LoginError::Refused(error),
            _ => LoginError::Failed(error),
        },
        _ => LoginError::Failed(error),
    }
}

/// The registry that a `serveraddress` means.
fn domain_of(address: &str) -> String {
    if address.is_empty() || address == DOCKER_HUB_AUTH_KEY {
        return DEFAULT_DOMAIN.to_owned();
    }
    let host =
        address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    host.split('/').next().unwrap_or_default().to_owned()
}
