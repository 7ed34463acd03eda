//! A layer on its way: one stream, continued where it broke if the registry knows how far it came, else sent
//! again (source: moby `daemon/internal/distribution/xfer/upload.go`).

use super::{
    Descriptor, Failure, Push,
    layers::{abandon, short},
    source::{Blob, Source},
};
use crate::{Error, images::pull::Pace};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use wharf_registry::{Error as RegistryError, Upload, stream_body};
use wharf_store::Layer;

/// How often an upload is tried.
const ATTEMPTS: u64 = 5;
/// An upload that came so much further is not counted as a failure: large layers pass over bad lines, too.
const PROGRESS: u64 = 256 << 10;

/// An upload that broke, and how far it came.
struct Broken {
    upload: Upload,
    offset: u64,
}

/// What an attempt came to.
enum Attempt {
    Done(Blob),
    Broken(Box<RegistryError>, Option<Broken>),
}

impl Push {
    /// Sends a layer, into this upload if there is one.
    pub(super) async fn send(&self, layer: &Layer, upload: Option<Upload>) -> Result<Descriptor, Failure> {
        let mut begun = upload.map(|upload| Broken { upload, offset: 0 });
        let (mut failures, mut token_was_old) = (0, false);
        loop {
            let before = begun.as_ref().map_or(0, |begun| begun.offset);
            let (error, broken) = match self.attempt(layer, begun.take()).await? {
                Attempt::Done(blob) => return self.pushed(layer, &blob).await,
                Attempt::Broken(error, broken) => (error, broken),
            };
            tracing::info!(%error, layer = %layer.diff_id, "upload broke");
            if error.is_unauthorized() && !mem::replace(&mut token_was_old, true) {
                begun = broken;
                continue;
            }
            match broken {
                Some(broken) if broken.offset >= before + PROGRESS => (begun, failures) = (Some(broken), 0),
                // It does not get further: another one may.
                Some(broken) => abandon(broken.upload).await,
                None => {}
            }
            failures += u64::from(begun.is_none());
            if !error.upload_may_pass() || failures == ATTEMPTS {
                return Err(RegistryError::Upload(error).into());
            }
            self.wait(layer, failures * 5).await;
        }
    }

    /// One try. Errors that another try does not help are errors here.
    async fn attempt(&self, layer: &Layer, begun: Option<Broken>) -> Result<Attempt, Failure> {
        let Broken { mut upload, offset } = match begun {
            Some(begun) => begun,
            None => match self.repository.start_upload().await {
                Ok(upload) => Broken { upload, offset: 0 },
                Err(error) => return Ok(Attempt::Broken(Box::new(error), None)),
            },
        };
        let Source { stream, read, blob } = Source::start(&self.inner.store.layers, layer, offset);
        let (report, id, total) = (self.report.clone(), short(layer), layer.size);
        let mut pace = Pace::new(total);
        let sent = Arc::new(AtomicU64::new(offset));
        let counter = Arc::clone(&sent);
        let told = stream.inspect(move |piece| {
            let bytes = piece.as_ref().map_or(0, Bytes::len);
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
            let current = read.load(Ordering::Relaxed);
            if pace.is_due(current, Instant::now()) {
                report.progress(&id, "Pushing", current, total);
            }
        });
        let appended = upload.append(stream_body(told), offset).await;
        // After a broken connection it says that nobody reads: that is the connection's fault.
        let made = blob.await.map_err(|_| Error::Panicked)?;
        match (appended, made) {
            (Ok(()), Ok(blob)) => Ok(match upload.finish(&blob.digest, Bytes::new()).await {
                Ok(()) => Attempt::Done(blob),
                Err(error) => Attempt::Broken(Box::new(error), None),
            }),
            (Ok(()), Err(error)) => {
                abandon(upload).await;
                Err(error.into())
            }
            (Err(error), _) => {
                let broken = resumable(upload, sent.load(Ordering::Relaxed)).await;
                Ok(Attempt::Broken(Box::new(error), broken))
            }
        }
    }

    async fn pushed(&self, layer: &Layer, blob: &Blob) -> Result<Descriptor, Failure> {
        self.report.state(&short(layer), "Pushed");
        self.note(layer.diff_id, blob.digest).await?;
        Ok(Descriptor::layer(blob.digest, blob.size))
    }

    /// Tells second by second when it goes on.
    async fn wait(&self, layer: &Layer, seconds: u64) {
        for left in (1..=seconds).rev() {
            let plural = if left == 1 { "" } else { "s" };
            self.report.state(&short(layer), format!("Retrying in {left} second{plural}"));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The upload with how far it came, if the registry still knows, and knows of no more than was sent.
async fn resumable(mut upload: Upload, sent: u64) -> Option<Broken> {
    match upload.offset().await {
        Ok(offset) if offset <= sent => return Some(Broken { upload, offset }),
        Ok(offset) => tracing::debug!(offset, sent, "a registry has more than it was sent"),
        Err(error) => tracing::debug!(%error, "a broken upload cannot be continued"),
    }
    abandon(upload).await;
    None
}
