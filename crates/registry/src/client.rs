//! The client: configuration, connections and tokens, shared by everything that talks to registries.

use crate::{
    AuthConfig, Config, ConfigError, Endpoint, Error, Repository, Scheme, blob::Endurance, endpoint::Places,
    exchange::Exchange, tls::Trust, token::Tokens, transport::Transport,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use wharf_spec::ImageRef;

/// What is to be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read; mirrors may serve.
    Pull,
    /// Read and write; mirrors are left out.
    Push,
}

impl Access {
    const fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// The client. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    places: Places,
    pub(crate) transport: Arc<Transport>,
    pub(crate) tokens: Arc<Tokens>,
    endurance: Endurance,
}

impl Registry {
    /// A client for this configuration. Opens no connection and reads no file.
    ///
    /// # Errors
    /// When a mirror or an insecure registry is malformed.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let trust = Trust::new(config.certs_dir.clone());
        let inner = Inner {
            places: Places::new(config)?,
            transport: Arc::new(Transport::new(trust, &config.user_agent)),
            tokens: Arc::default(),
            endurance: Endurance { attempts: config.max_download_attempts.max(1), patience: config.patience },
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The places where `image` may be found, to be tried one after the other
    /// (moby: `pullEndpoints`, `pushEndpoints`).
    ///
    /// # Errors
    /// When the name belongs to no registry, or is reserved (`scratch`).
    pub async fn endpoints(
        &self,
        image: &ImageRef,
        auth: &AuthConfig,
        access: Access,
    ) -> Result<Endpoints, Error> {
        if image.familiar_name() == "scratch" {
            return Err(Error::ReservedName("scratch".to_owned()));
        }
        if image.domain().is_empty() {
            return Err(Error::NoEndpoint(image.familiar_string()));
        }
        let remaining = self.inner.places.endpoints(image.domain(), access == Access::Pull).await;
        Ok(Endpoints {
            registry: self.clone(),
            image: image.clone(),
            auth: auth.clone(),
            access,
            remaining: remaining.into(),
            current: None,
            speaks_tls: Vec::new(),
            last_error: None,
            headers: HeaderMap::new(),
        })
    }

    pub(crate) async fn index(&self, host: &str) -> Endpoint {
        self.inner.places.index(host).await
    }

    pub(crate) async fn login_endpoints(&self, domain: &str) -> Vec<Endpoint> {
        self.inner.places.endpoints(domain, false).await
    }

    pub(crate) async fn open(
        &self,
        endpoint: &Endpoint,
        auth: &AuthConfig,
        scope: String,
    ) -> Result<Exchange, Error> {
        let (transport, tokens) = (Arc::clone(&self.inner.transport), Arc::clone(&self.inner.tokens));
        Exchange::ping(transport, tokens, endpoint.clone(), auth.clone(), scope).await
    }
}

/// The endpoints of one image, in the order in which they are tried:
///
/// ```text
/// let mut endpoints = registry.endpoints(&image, &auth, Access::Pull).await?;
/// let manifest = loop {
///     let repository = endpoints.next().await?;
///     match repository.manifest(&image).await {
///         Ok(manifest) => break manifest,
///         Err(error) => endpoints.failed(error)?,
///     }
/// };
/// ```
pub struct Endpoints {
    registry: Registry,
    image: ImageRef,
    auth: AuthConfig,
    access: Access,
    remaining: VecDeque<Endpoint>,
    current: Option<Endpoint>,
    /// Hosts that answered over TLS: they are never asked without.
    speaks_tls: Vec<String>,
    last_error: Option<Error>,
    headers: HeaderMap,
}

impl Endpoints {
    /// The same places, asked with these headers too: what a client of the daemon wants its registry to see
    /// (`X-Meta-...`).
    #[must_use]
    pub fn with_headers(mut self, headers: &BTreeMap<String, Vec<String>>) -> Self {
        for (name, values) in headers {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            for value in values.iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
                self.headers.append(name.clone(), value);
            }
        }
        self
    }

    /// The next place that answers at all.
    ///
    /// # Errors
    /// When there is none left: why the last one failed, in Docker's words about the image.
    pub async fn next(&mut self) -> Result<Repository, Error> {
        while let Some(endpoint) = self.remaining.pop_front() {
            let encrypted_before = self.speaks_tls.iter().any(|host| host == endpoint.authority());
            if endpoint.scheme() == Scheme::Http && encrypted_before {
                continue;
            }
            self.current = Some(endpoint.clone());
            let scope = format!("repository:{}:{}", self.image.path(), self.access.actions());
            match self.registry.open(&endpoint, &self.auth, scope).await {
                Ok(exchange) => {
                    let exchange = exchange.with_headers(self.headers.clone());
                    return Ok(Repository::new(exchange, &self.image, self.registry.inner.endurance));
                }
                Err(error) => {
                    tracing::debug!(%error, ?endpoint, "registry endpoint does not answer");
                    self.note(error, &endpoint);
                }
            }
        }
        let none = || Error::NoEndpoint(self.image.familiar_string());
        let error = self.last_error.take().unwrap_or_else(none);
        // Docker has these words for pulls only.
        Err(if self.access == Access::Pull { error.about(&self.image) } else { error })
    }

    /// Tells that the work with the repository that [`Self::next`] gave failed.
    ///
    /// # Errors
    /// The error itself, in Docker's words, when no other endpoint can do better.
    pub fn failed(&mut self, error: Error) -> Result<(), Error> {
        self.failed_plainly(error).map_err(|error| error.about(&self.image))
    }

    /// As [`Self::failed`], with the error as the registry gave it.
    ///
    /// # Errors
    /// As [`Self::failed`].
    pub fn failed_plainly(&mut self, error: Error) -> Result<(), Error> {
        let Some(endpoint) = self.current.take() else { return Err(error) };
        if !error.lets_next_endpoint_try(endpoint.is_mirror()) {
            return Err(error);
        }
        tracing::info!(%error, ?endpoint, "trying the next registry endpoint");
        self.note(error, &endpoint);
        Ok(())
    }

    fn note(&mut self, error: Error, endpoint: &Endpoint) {
        if endpoint.scheme() == Scheme::Https && error.proves_transport() {
            self.speaks_tls.push(endpoint.authority().to_owned());
        }
        self.last_error = Some(error);
    }
}
