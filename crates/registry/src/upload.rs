//! Pushing blobs: mount what the registry has, else upload in one stream or in pieces.
//!
//! Source: OCI distribution-spec, "Push".

use crate::{
    Body, Error, Repository,
    exchange::read_error,
    transport::{Answer, Payload},
    url::Url,
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use std::time::Duration;
use wharf_spec::Digest;

/// The registry hashes and moves the blob before it answers the last request.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What came of asking for a mount.
pub enum Mount {
    /// The blob is in the repository now.
    Done,
    /// It has to be uploaded: here.
    Needed(Upload),
}

/// An upload under way.
pub struct Upload {
    repository: Repository,
    location: Url,
}

impl Repository {
    /// Takes a blob over from another repository of the same registry, or starts an upload.
    ///
    /// # Errors
    /// When the registry refuses both.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Mount, Error> {
        let url =
            self.url("blobs/uploads/").with_query("mount", &digest.to_string()).with_query("from", from);
        let outgoing = self.exchange.outgoing(Method::POST, url);
        let answer = self.exchange.send(outgoing, &[format!("repository:{from}:pull")]).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Mount::Done),
            _ => Upload::begin(self, answer).await.map(Mount::Needed),
        }
    }

    /// Starts an upload.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub async fn start_upload(&self) -> Result<Upload, Error> {
        let outgoing = self.exchange.outgoing(Method::POST, self.url("blobs/uploads/"));
        let answer = self.exchange.send(outgoing, &[]).await?;
        Upload::begin(self, answer).await
    }
}

impl Upload {
    async fn begin(repository: &Repository, answer: Answer) -> Result<Self, Error> {
        if answer.status() != StatusCode::ACCEPTED {
            return Err(read_error(answer).await);
        }
        let location = location(&answer)?;
        Ok(Self { repository: repository.clone(), location })
    }

    /// Appends a stream of any length in one request.
    ///
    /// # Errors
    /// When the registry refuses it, the connection breaks, or the stream fails.
    pub async fn append(&mut self, body: Body) -> Result<(), Error> {
        let mut outgoing = self.repository.exchange.outgoing(Method::PATCH, self.location.clone());
        outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        outgoing.payload = Payload::Stream(body);
        outgoing.patience = PATIENCE;
        let answer = self.repository.exchange.send(outgoing, &[]).await?;
        if !answer.status().is_success() {
            return Err(read_error(answer).await);
        }
        self.location = location(&answer)?;
        Ok(())
    }

    /// Ends the upload: what was appended, plus `rest`, has this digest.
    ///
    /// # Errors
    /// When the registry finds that it has not.
    pub async fn finish(self, digest: &Digest, rest: Bytes) -> Result<(), Error> {
        let url = self.location.with_query("digest", &digest.to_string());
        let mut outgoing = self.repository.exchange.outgoing(Method::PUT, url);
        outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        outgoing.payload = Payload::Bytes(rest);
        outgoing.patience = PATIENCE;
        self.repository.exchange.send_ok(outgoing).await.map(drop)
    }

    /// Gives the upload up.
    ///
    /// # Errors
    /// When the registry does not answer.
    pub async fn cancel(self) -> Result<(), Error> {
        let outgoing = self.repository.exchange.outgoing(Method::DELETE, self.location);
        self.repository.exchange.send(outgoing, &[]).await.map(drop)
    }
}

fn location(answer: &Answer) -> Result<Url, Error> {
    match answer.header(header::LOCATION) {
        "" => Err(Error::protocol(&answer.url, "no Location header")),
        location => answer.url.join(location),
    }
}
