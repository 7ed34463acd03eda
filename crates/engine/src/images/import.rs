//! `POST /images/create?fromSrc=` (source: moby `daemon/images/image_import.go`,
//! `daemon/server/router/image/image_routes.go`).

use super::{
    ByteStream, ImportImage, Inner, Progress, changed_config, run_config, store_error,
    tag::repository_and_tag,
};
use crate::{Error, Result};
use futures_util::StreamExt;
use std::io::Read;
use wharf_api::{container::Config, progress};
use wharf_archive::Decompressor;
use wharf_spec::{History, ImageConfig, ImageId, ImageRef, Platform, RootFs, RunConfig};

/// How often a client hears of a download.
const STEP: u64 = 512 << 10;

/// An import whose parameters were read.
pub(super) struct Checked {
    reference: Option<ImageRef>,
    platform: Platform,
    run: RunConfig,
    message: String,
}

/// Checks what does not depend on the archive.
pub(super) fn check(options: ImportImage) -> Result<Checked> {
    let reference = repository_and_tag(&options.repository, &options.tag)?;
    let platform = options.platform.unwrap_or_else(Platform::host);
    if platform.os != "linux" {
        return Err(Error::Invalid(format!("operating system is not supported: {}", platform.os)));
    }
    let run = run_config(&changed_config(Config::default(), &options.changes)?)?;
    Ok(Checked { reference, platform, run, message: options.message })
}

impl Inner {
    /// The archive behind an address; tells how far it is.
    pub(super) async fn download(&self, url: &str, progress: Progress) -> Result<ByteStream> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let started = self.registry().download(&url).await;
        let download = started.map_err(|error| Error::Registry(error.to_string(), error.kind()))?;
        let total = download.length.unwrap_or(0);
        // A client that left ends the import by itself.
        let _ = progress.send(progress::Message::status("", format!("Downloading from {url}"))).await;
        let (mut received, mut told) = (0, 0);
        let pieces = download.into_stream().inspect(move |piece| {
            received += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
            if received - told >= STEP || received == total {
                told = received;
                let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                let (current, total) = (signed(received), signed(total));
                let detail = progress::Progress { current, total, ..Default::default() };
                // Nobody waits for it to be seen.
                let _ = progress.try_send(progress::Message::progress("", "Importing", detail));
            }
        });
        Ok(pieces.boxed())
    }

    pub(super) fn import(&self, archive: impl Read + Send, options: Checked) -> Result<ImageId> {
        let archive = Decompressor::new(archive).map_err(|error| store_error(error.into()))?;
        let unpacked = self.store.layers.unpack(archive).map_err(store_error)?;
        // Held until the image holds it.
        let layer = self.store.layers.register(unpacked, None).map_err(store_error)?;
        let created = Some(jiff::Timestamp::now().to_string());
        let comment = options.message;
        let config = ImageConfig {
            architecture: options.platform.architecture,
            variant: options.platform.variant,
            os: options.platform.os,
            comment: comment.clone(),
            config: Some(options.run),
            created: created.clone(),
            history: vec![History { created, comment, ..History::default() }],
            rootfs: Some(RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() }),
            ..ImageConfig::default()
        };
        let raw = config.to_json();
        let id = match options.reference {
            None => self.store.images.create(&raw)?.id,
            Some(reference) => {
                self.store.create_named(&raw, |id| self.add_tag(id, &reference).map(|()| id))?
            }
        };
        self.emit("import", id, &id.to_string());
        Ok(id)
    }
}
