//! Blobs as streams: resumed when a connection breaks, verified at the end, never longer than promised.

use crate::{
    Error, Repository, TransportError, exchange::read_error, repository::digest_from, transport::Answer,
    url::Url,
};
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::{Duration, Instant};
use wharf_spec::Descriptor;

/// What a connection must bring while its patience lasts: a byte now and then keeps nobody waiting for ever.
const TRICKLE: u64 = 16 << 10;
/// A failure after so many new bytes does not count: long downloads over bad lines come to an end, too.
const PROGRESS: u64 = 1 << 20;

/// How much trouble a download puts up with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endurance {
    /// How often it is tried, at least once.
    pub(crate) attempts: u32,
    /// How long a connection may bring next to nothing.
    pub(crate) patience: Duration,
}

/// How a connection is doing. Time in which nobody wanted its bytes does not count.
#[derive(Debug, Default)]
struct Flow {
    waited: Duration,
    brought: u64,
}

impl Flow {
    /// Notes what came after waiting for so long. Whether that is too little.
    fn is_trickle(&mut self, waited: Duration, brought: usize, patience: Duration) -> bool {
        self.waited += waited;
        self.brought += brought as u64;
        if self.waited < patience {
            return false;
        }
        std::mem::take(self).brought < TRICKLE
    }
}

/// What a blob's stream brings.
#[derive(Debug)]
pub enum BlobEvent {
    /// The next bytes.
    Data(Bytes),
    /// The connection broke. The next call of [`Blob::next`] waits for this long, then goes on where it was.
    Retrying(Duration),
}

/// A blob under way.
pub struct Blob {
    repository: Repository,
    descriptor: Descriptor,
    hash: Option<ring::digest::Context>,
    received: u64,
    /// Bytes that come again since the registry does not know ranges.
    to_skip: u64,
    body: Option<(Incoming, Url)>,
    wait: Option<Duration>,
    flow: Flow,
    failures: u32,
    endurance: Endurance,
    received_at_failure: u64,
    resumed: bool,
}

impl Blob {
    pub(crate) fn new(repository: Repository, descriptor: Descriptor, endurance: Endurance) -> Self {
        Self {
            repository,
            descriptor,
            hash: Some(ring::digest::Context::new(&ring::digest::SHA256)),
            received: 0,
            to_skip: 0,
            body: None,
            wait: None,
            flow: Flow::default(),
            failures: 0,
            endurance,
            received_at_failure: 0,
            resumed: false,
        }
    }

    /// How many bytes have been handed out.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Whether its bytes came over more than one connection.
    pub const fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// The next bytes; `None` after the last, when all of them have the digest they should.
    ///
    /// # Errors
    /// When the blob is not there, is not what its digest says, has not as many bytes as its descriptor says,
    /// or the connection broke too often.
    pub async fn next(&mut self) -> Result<Option<BlobEvent>, Error> {
        if self.hash.is_none() {
            return Ok(None);
        }
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
        }
        match self.read().await {
            Ok(Some(bytes)) => self.take(bytes).map(|bytes| Some(BlobEvent::Data(bytes))),
            Ok(None) => self.verify().map(|()| None),
            Err(error) => self.after_failure(error).map(|wait| Some(BlobEvent::Retrying(wait))),
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let (mut body, url) = match self.body.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        loop {
            let failed = |source| Error::transport(&Method::GET, &url, source);
            let (asked, patience) = (Instant::now(), self.endurance.patience);
            let frame = tokio::time::timeout(patience, body.frame())
                .await
                .map_err(|_| failed(TransportError::Stalled))?;
            let Some(frame) = frame else { return self.end(&url) };
            let Ok(mut data) = frame.map_err(|e| failed(TransportError::Http(e)))?.into_data() else {
                continue;
            };
            if self.flow.is_trickle(asked.elapsed(), data.len(), patience) {
                return Err(failed(TransportError::Stalled));
            }
            let again = self.to_skip.min(data.len() as u64);
            self.to_skip -= again;
            data.advance(usize::try_from(again).unwrap_or(data.len()));
            if !data.is_empty() {
                self.body = Some((body, url));
                return Ok(Some(data));
            }
        }
    }

    /// A body that ends early ended for a reason: it is fetched again from there.
    fn end(&self, url: &Url) -> Result<Option<Bytes>, Error> {
        if self.received < self.descriptor.size {
            let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "unexpected EOF");
            return Err(Error::transport(&Method::GET, url, TransportError::Io(cut)));
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<(Incoming, Url), Error> {
        let exchange = &self.repository.exchange;
        let mut outgoing = exchange.outgoing(Method::GET, self.repository.blob_url(&self.descriptor.digest));
        if self.received > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", self.received))
                .expect("digits are a header value");
            outgoing.headers.insert(header::RANGE, range);
        }
        let answer = exchange.send(outgoing, &[]).await?;
        self.flow = Flow::default();
        self.resumed |= self.received > 0;
        self.to_skip = match answer.status() {
            StatusCode::PARTIAL_CONTENT if self.received > 0 => {
                check_range(&answer, self.received)?;
                0
            }
            StatusCode::OK => self.received,
            _ => return Err(read_error(answer).await),
        };
        Ok((answer.response.into_body(), answer.url))
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        self.received += bytes.len() as u64;
        if self.received > self.descriptor.size {
            return Err(self.wrong_size());
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&bytes);
        }
        Ok(bytes)
    }

    fn verify(&mut self) -> Result<(), Error> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        if self.received != self.descriptor.size {
            return Err(self.wrong_size());
        }
        if digest_from(hash.finish()) != self.descriptor.digest {
            return Err(Error::BlobDigest(self.descriptor.digest));
        }
        Ok(())
    }

    fn wrong_size(&self) -> Error {
        Error::BlobSize {
            digest: self.descriptor.digest,
            expected: self.descriptor.size,
            found: self.received,
        }
    }

    /// How long to wait before going on, or the error when it is final.
    fn after_failure(&mut self, error: Error) -> Result<Duration, Error> {
        if self.received >= self.received_at_failure + PROGRESS {
            self.failures = 0;
        }
        self.received_at_failure = self.received;
        self.failures += 1;
        if !error.is_passing() || self.failures >= self.endurance.attempts {
            return Err(error);
        }
        let wait = Duration::from_secs(1 << (self.failures - 1).min(4));
        tracing::info!(%error, digest = %self.descriptor.digest, ?wait, "download broke, retrying");
        self.wait = Some(wait);
        Ok(wait)
    }
}

/// The part must begin where we asked (source: RFC 9110, "Content-Range").
fn check_range(answer: &Answer, from: u64) -> Result<(), Error> {
    let range = answer.header(header::CONTENT_RANGE);
    let start =
        range.strip_prefix("bytes ").and_then(|r| r.split('-').next()).and_then(|n| n.parse::<u64>().ok());
    if start == Some(from) {
        return Ok(());
    }
    Err(Error::protocol(&answer.url, format!("could not use Content-Range header: {range}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_a_broken_connection() {
        let (second, patience) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut flow = Flow::default();
        let mut trickles = |bytes: usize, times: u32| {
            (0..times).filter(|_| flow.is_trickle(second, bytes, patience)).count()
        };
        assert_eq!(trickles(1, 59), 0);
        assert_eq!(trickles(1, 1), 1);
        assert_eq!(trickles(300, 600), 0, "16 KiB a minute are slow, but come");
        assert_eq!(trickles(200, 60), 1);
    }
}
