//! One layer from the registry: downloaded, verified and extracted at the same time.

use super::{
    Failure, Pull,
    feed::{self, Fed, Feed, Source},
    hold::Hold,
    layers::Missing,
    report::Pace,
};
use crate::{Error, images::store_error};
use std::{
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};
use wharf_archive::Decompressor;
use wharf_registry::{Blob, BlobEvent, Error as RegistryError};
use wharf_store::{Layers, Unpacked};

/// How often the client hears of an extraction.
const TICK: Duration = Duration::from_millis(100);

type Extraction = JoinHandle<wharf_store::Result<Unpacked>>;

impl Pull {
    /// Downloads and extracts a layer. Once more from the beginning, if it is not what it should be and a
    /// broken connection may be to blame.
    pub(super) async fn download(&self, layer: &Missing) -> Result<Hold<Unpacked>, Failure> {
        let mut blob = self.repository.blob(&layer.blob);
        match self.stream(layer, &mut blob).await {
            Err(Failure::Registry(
                error @ (RegistryError::BlobDigest(_) | RegistryError::BlobSize { .. }),
            )) if blob.was_resumed() => {
                tracing::warn!(%error, "a resumed download is damaged, starting over");
                self.stream(layer, &mut self.repository.blob(&layer.blob)).await
            }
            other => other,
        }
    }

    async fn stream(&self, layer: &Missing, blob: &mut Blob) -> Result<Hold<Unpacked>, Failure> {
        let (feed, source) = feed::pair();
        let layers = Arc::clone(&self.inner.store.layers);
        // When this is dropped, the feed is, and the extraction fails and removes what it made.
        let extraction = tokio::task::spawn_blocking(move || extract(&layers, source));
        if self.pump(layer, blob, &feed).await? == Fed::Refused {
            return Err(refusal(extraction, blob).await);
        }
        // The extraction may have failed on the very last bytes; then it says so itself.
        let _ = feed.end().await;
        self.report.state(&layer.id(), "Download complete");
        self.extracted(layer, extraction, &feed).await
    }

    /// Brings the bytes of the blob to the extraction, until they are verified.
    async fn pump(&self, layer: &Missing, blob: &mut Blob, feed: &Feed) -> Result<Fed, Failure> {
        let (id, size) = (layer.id(), layer.blob.size);
        let mut pace = Pace::new(size);
        let mut event = blob.next().await?;
        while let Some(now) = event {
            event = match now {
                BlobEvent::Data(bytes) => {
                    let received = blob.received();
                    if pace.is_due(received, Instant::now()) {
                        self.report.progress(&id, "Downloading", received, size);
                    }
                    if received == size {
                        self.report.state(&id, "Verifying Checksum");
                    }
                    if feed.give(bytes).await == Fed::Refused {
                        return Ok(Fed::Refused);
                    }
                    blob.next().await?
                }
                BlobEvent::Retrying(wait) => self.count_down(&id, wait, blob.next()).await?,
            };
        }
        Ok(Fed::Yes)
    }

    /// Tells second by second when it goes on.
    async fn count_down<T>(&self, id: &str, wait: Duration, next: impl Future<Output = T>) -> T {
        let mut next = pin!(next);
        for left in (1..=wait.as_secs()).rev() {
            let plural = if left == 1 { "" } else { "s" };
            self.report.state(id, format!("Retrying in {left} second{plural}"));
            if let Ok(event) = timeout(Duration::from_secs(1), &mut next).await {
                return event;
            }
        }
        next.await
    }

    /// Waits for the extraction and tells how far it is.
    async fn extracted(
        &self,
        layer: &Missing,
        mut extraction: Extraction,
        feed: &Feed,
    ) -> Result<Hold<Unpacked>, Failure> {
        let (id, size) = (layer.id(), layer.blob.size);
        let mut pace = Pace::new(size);
        let ended = loop {
            match timeout(TICK, &mut extraction).await {
                Ok(ended) => break ended,
                Err(_) if pace.is_due(feed.eaten(), Instant::now()) => {
                    self.report.progress(&id, "Extracting", feed.eaten(), size);
                }
                Err(_) => {}
            }
        };
        let unpacked = ended.map_err(|_| Error::Panicked)?.map_err(failed)?;
        self.report.all(&id, "Extracting", size);
        Ok(Hold::new(unpacked))
    }
}

/// Decompresses and extracts, and reads on to the end: the last word on the bytes comes after the last of
/// them.
fn extract(layers: &Arc<Layers>, mut source: Source) -> wharf_store::Result<Unpacked> {
    let plain = Decompressor::new(&mut source)?;
    let unpacked = layers.unpack(plain)?;
    let rest = io::copy(&mut source, &mut io::sink());
    rest.map_err(|source| wharf_store::Error::Read { what: "a layer's blob".into(), source })?;
    Ok(unpacked)
}

/// Why the extraction gave up. Before a layer is called malformed, the rest of its bytes is read: they may
/// not be those of the layer at all.
async fn refusal(extraction: Extraction, blob: &mut Blob) -> Failure {
    let error = match extraction.await {
        Ok(Err(error)) => error,
        // It reads to the end when all is well.
        Ok(Ok(_)) | Err(_) => return Error::Panicked.into(),
    };
    if is_malformed(&error) {
        loop {
            match blob.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
    }
    failed(error).into()
}

fn is_malformed(error: &wharf_store::Error) -> bool {
    use wharf_archive::Error as Archive;
    matches!(error, wharf_store::Error::Archive(e) if !matches!(e, Archive::Write(_) | Archive::File { .. }))
        || matches!(error, wharf_store::Error::Read { .. } | wharf_store::Error::DuplicatePath(_))
}

fn failed(error: wharf_store::Error) -> Error {
    store_error(error).context("failed to register layer")
}
