//! One endpoint, one user, one repository: requests with the right credential.

use crate::{
    AuthConfig, Error,
    challenge::{Challenge, challenges},
    endpoint::Endpoint,
    error::{ApiError, error_of_response},
    token::{Tokens, Wish},
    transport::{Answer, Credential, Outgoing, Transport},
    url::Url,
};
use http::{HeaderMap, Method, StatusCode, header};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Error bodies longer than this are no error bodies.
const ERROR_BODY_MAX: usize = 1 << 20;
const PING_PATIENCE: Duration = Duration::from_secs(15);

/// What requests to one repository have in common.
pub(crate) struct Exchange {
    pub(crate) transport: Arc<Transport>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) endpoint: Endpoint,
    pub(crate) auth: AuthConfig,
    /// `repository:library/busybox:pull`; empty to log in.
    pub(crate) scope: String,
    /// What goes with every request.
    headers: HeaderMap,
    challenges: Mutex<Arc<Vec<Challenge>>>,
}

impl Exchange {
    /// Asks the endpoint what it wants to see (moby: `PingV2Registry`).
    pub(crate) async fn ping(
        transport: Arc<Transport>,
        tokens: Arc<Tokens>,
        endpoint: Endpoint,
        auth: AuthConfig,
        scope: String,
    ) -> Result<Self, Error> {
        let mut outgoing = Outgoing::new(Method::GET, endpoint.url("")).of(&endpoint);
        outgoing.patience = PING_PATIENCE;
        let answer = transport.fetch(&mut outgoing, None).await?;
        let wanted = Mutex::new(Arc::new(wanted(&answer)));
        // The body is read so that the connection can be used again; what it says does not matter.
        let _ = answer.bytes(ERROR_BODY_MAX).await;
        let headers = HeaderMap::new();
        Ok(Self { transport, tokens, endpoint, auth, scope, headers, challenges: wanted })
    }

    pub(crate) fn outgoing(&self, method: Method, url: Url) -> Outgoing {
        let mut outgoing = Outgoing::new(method, url).of(&self.endpoint);
        outgoing.headers.extend(self.headers.clone());
        outgoing
    }

    /// The same, with these headers in every request.
    pub(crate) fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// Sends a request with the credential the endpoint wants; once more when it turns out to want another.
    /// Answers of any status are handed back.
    pub(crate) async fn send(&self, mut outgoing: Outgoing, more_scopes: &[String]) -> Result<Answer, Error> {
        let scopes = self.scopes(more_scopes);
        let wish = Wish { endpoint: &self.endpoint, auth: &self.auth, scopes: &scopes, offline: false };
        let first_url = outgoing.url.clone();
        let credential = self.credential(&wish, Place::of(&outgoing)).await?;
        let answer = self.transport.fetch(&mut outgoing, credential.as_ref()).await?;
        let rejected =
            answer.status() == StatusCode::UNAUTHORIZED && answer.url.same_origin(&self.endpoint.base);
        let now_wanted = wanted(&answer);
        if !rejected || now_wanted.is_empty() {
            return Ok(answer);
        }
        if credential.is_some() && !self.may_pass_now(&wish, &now_wanted).await {
            return Ok(answer);
        }
        // What was streamed is gone; whoever has it sends it again, and then with another token.
        if !outgoing.payload.is_replayable() {
            return Ok(answer);
        }
        let _ = answer.bytes(ERROR_BODY_MAX).await;
        *self.challenges.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now_wanted);
        outgoing.url = first_url;
        let credential = self.credential(&wish, Place::of(&outgoing)).await?;
        self.transport.fetch(&mut outgoing, credential.as_ref()).await
    }

    /// As [`Self::send`], with every status but 200 to 299 as an error.
    pub(crate) async fn send_ok(&self, outgoing: Outgoing) -> Result<Answer, Error> {
        let answer = self.send(outgoing, &[]).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(read_error(answer).await) }
    }

    /// The bearer challenge, if the endpoint has one (log in).
    pub(crate) fn wanted(&self) -> Arc<Vec<Challenge>> {
        Arc::clone(&self.challenges.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn scopes(&self, more: &[String]) -> Vec<String> {
        let own = (!self.scope.is_empty()).then(|| self.scope.clone());
        own.into_iter().chain(more.iter().cloned()).collect()
    }

    async fn credential(&self, wish: &Wish<'_>, place: Place) -> Result<Option<Credential>, Error> {
        let challenges = self.wanted();
        self.tokens.credential(&self.transport, &challenges, wish).await.map_err(|error| Error::Auth {
            method: place.method,
            url: place.url,
            source: Box::new(error),
        })
    }

    /// A refused token may merely have grown old: it is forgotten and asked for anew, unless the registry
    /// says that the user may not.
    async fn may_pass_now(&self, wish: &Wish<'_>, now_wanted: &[Challenge]) -> bool {
        let Some(bearer) = now_wanted.iter().find(|c| c.scheme == "bearer") else { return false };
        if bearer.parameter("error") == "insufficient_scope" || !self.auth.registrytoken.is_empty() {
            return false;
        }
        self.tokens.forget(&self.wanted(), wish).await;
        true
    }
}

/// What a request asks, for errors. A request itself cannot be looked at by two threads: its body may be a
/// stream.
struct Place {
    method: String,
    url: String,
}

impl Place {
    fn of(outgoing: &Outgoing) -> Self {
        Self { method: crate::error::go_method(&outgoing.method), url: outgoing.url.to_string() }
    }
}

fn wanted(answer: &Answer) -> Vec<Challenge> {
    match answer.status() {
        StatusCode::UNAUTHORIZED => challenges(answer.response.headers()),
        _ => Vec::new(),
    }
}

/// The error that an answer is (Go: `HandleErrorResponse`).
pub(crate) async fn read_error(answer: Answer) -> Error {
    let status = answer.status();
    let oauth = challenges(answer.response.headers()).into_iter().find_map(|c| {
        let code = match c.parameter("error") {
            "invalid_token" => "UNAUTHORIZED",
            "insufficient_scope" => "DENIED",
            _ => return None,
        };
        (c.scheme == "bearer").then(|| ApiError::new(code, c.parameter("error_description")))
    });
    let content_type = answer.header(header::CONTENT_TYPE).to_owned();
    let error = match answer.bytes(ERROR_BODY_MAX).await {
        Ok(body) => error_of_response(status, &content_type, &body),
        Err(error) => error,
    };
    match (oauth, error) {
        (Some(first), Error::Api(rest)) => Error::Api(std::iter::once(first).chain(rest).collect()),
        (Some(first), _) => Error::Api(vec![first]),
        (None, error) => error,
    }
}
