//! The distribution protocol: how images come from and go to registries.
//!
//! Role: a client for registries (resolve, fetch, push, log in) with mirrors, insecure registries, token
//! and basic authentication, redirects, resume and retries; and the credentials of a user's
//! `~/.docker/config.json`.
//!
//! Entry points: [`Registry`], made once from a [`Config`]; [`Registry::endpoints`] walks the places an
//! image may come from and hands a [`Repository`] of each to the caller; [`Repository::manifest`],
//! [`Repository::blob`], [`Repository::start_upload`].
//!
//! Files: reads `/etc/docker/certs.d/<host>/` ([`tls`]) and, for the command line only,
//! `~/.docker/config.json` ([`Credentials`]). Writes none.
//!
//! Invariants: content that is handed out in full has the digest that was asked for. A credential is sent to
//! the registry it was given for and to the token server that registry names, never along a redirect to
//! another host and never from an encrypted to a plain connection. Whatever a registry sends is bounded:
//! manifests at 4 MiB, blobs at their descriptor's size, everything else at 1 MiB.
#![forbid(unsafe_code)]

mod auth_config;
mod blob;
mod challenge;
mod client;
mod credentials;
mod download;
mod endpoint;
mod error;
mod exchange;
mod login;
mod repository;
mod search;
pub mod tls;
mod token;
mod transport;
mod upload;
mod url;

pub use auth_config::{AuthConfig, DecodeAuthError};
pub use blob::{Blob, BlobEvent};
pub use client::{Access, Endpoints, Registry};
pub use credentials::{Credentials, CredentialsError, Kept, host_of};
pub use download::{Download, DownloadError};
pub use endpoint::{Config, ConfigError, DOCKER_HUB_AUTH_KEY, Endpoint, Scheme};
pub use error::{ApiError, Error, TransportError};
pub use login::LoginError;
pub use repository::{FetchedManifest, Repository, digest_of};
pub use search::{Found, SearchError};
pub use transport::{Body, empty_body, full_body, stream_body};
pub use upload::{Mount, Upload};
