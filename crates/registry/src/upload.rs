//! Pushing blobs: mount what the registry has, else upload in one stream or in pieces.
//!
//! Source: OCI distribution-spec, "Push".

use crate::{
    Body, Error, Repository, TransportError,
    exchange::read_error,
    transport::{Answer, Payload},
    url::Url,
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use wharf_spec::Digest;

/// The registry hashes and moves the blob before it answers the last request.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// A connection that takes no bytes for so long is broken.
const STALL: Duration = Duration::from_secs(60);
/// Set in the counter of bytes when all of them went out.
const ALL_SENT: u64 = 1 << 63;
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

    /// Appends a stream of any length in one request, as Docker does: some registries take no more than one.
    /// `offset` is how many bytes the registry has already ([`Self::offset`]).
    ///
    /// # Errors
    /// When the registry refuses it, the connection breaks, or the stream fails.
    pub async fn append(&mut self, body: Body, offset: u64) -> Result<(), Error> {
        let url = self.location.clone();
        let mut outgoing = self.repository.exchange.outgoing(Method::PATCH, url.clone());
        outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if offset > 0 {
            let range =
                HeaderValue::try_from(format!("{offset}-")).expect("digits and a hyphen are a header value");
            outgoing.headers.insert(header::CONTENT_RANGE, range);
        }
        let sent = Arc::new(AtomicU64::new(0));
        outgoing.payload = Payload::Stream(counted(body, &sent));
        // How long the whole takes depends on the line: what counts is that it moves.
        outgoing.patience = Duration::MAX;
        let answer = while_moving(self.repository.exchange.send(outgoing, &[]), &sent)
            .await
            .unwrap_or_else(|| Err(Error::transport(&Method::PATCH, &url, TransportError::Stalled)))?;
        if !answer.status().is_success() {
            return Err(read_error(answer).await);
        }
        self.location = location(&answer)?;
        Ok(())
    }

    /// How many bytes the registry has of an upload that broke.
    ///
    /// # Errors
    /// When the registry knows nothing of it any more, or does not tell: then the upload starts anew.
    pub async fn offset(&mut self) -> Result<u64, Error> {
        let outgoing = self.repository.exchange.outgoing(Method::GET, self.location.clone());
        let answer = self.repository.exchange.send(outgoing, &[]).await?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(read_error(answer).await);
        }
        // The last byte counts from 0, so that nothing and a single byte look the same: that is nothing.
        let range = answer.header(header::RANGE);
        let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-");
        let last = last.and_then(|last| last.parse::<u64>().ok());
        let last = last.ok_or_else(|| Error::protocol(&answer.url, format!("bad range format: {range}")))?;
        if !answer.header(header::LOCATION).is_empty() {
            self.location = location(&answer)?;
        }
        Ok(if last == 0 { 0 } else { last + 1 })
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

/// The same bytes, counted as they go out.
fn counted(body: Body, sent: &Arc<AtomicU64>) -> Body {
    let (count, end) = (Arc::clone(sent), Arc::clone(sent));
    let frames = body.into_data_stream();
    let frames = futures_util::stream::unfold((frames, end), move |(mut frames, end)| {
        let count = Arc::clone(&count);
        async move {
            let next = futures_util::StreamExt::next(&mut frames).await;
            match &next {
                Some(Ok(bytes)) => drop(count.fetch_add(bytes.len() as u64, Ordering::Relaxed)),
                Some(Err(_)) => {}
                None => drop(end.fetch_or(ALL_SENT, Ordering::Relaxed)),
            }
            next.map(|next| (next, (frames, end)))
        }
    });
    crate::stream_body(frames)
}

/// Waits for the end of a request as long as its body goes out, then for the registry's work. `None` when it
/// does not move any more.
async fn while_moving<T>(request: impl Future<Output = T>, sent: &AtomicU64) -> Option<T> {
    let mut request = pin!(request);
    let mut before = 0;
    loop {
        let wait = if before & ALL_SENT == 0 { STALL } else { PATIENCE };
        if let Ok(done) = tokio::time::timeout(wait, &mut request).await {
            return Some(done);
        }
        let now = sent.load(Ordering::Relaxed);
        if std::mem::replace(&mut before, now) == now {
            return None;
        }
    }
}

fn location(answer: &Answer) -> Result<Url, Error> {
    match answer.header(header::LOCATION) {
        "" => Err(Error::protocol(&answer.url, "no Location header")),
        location => answer.url.join(location),
    }
}
