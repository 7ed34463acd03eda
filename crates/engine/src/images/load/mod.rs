//! `POST /images/load`: archives of `docker save` of any age since 1.10 and OCI image layouts (source: moby
//! `daemon/internal/image/tarexport/load.go`; OCI image-spec, image-layout.md).
//!
//! Docker unpacks the archive to a directory first. Here the archive is read once: a blob that looks like
//! a layer is extracted while it passes, one that is known is skipped, and the configs, which may come last,
//! tell afterwards what belongs together. Only layers of classic archives, whose names say nothing of their
//! contents, are put aside first.

mod archive;
mod docker;
mod oci;

use super::{Inner, Progress, store_error};
use crate::{Error, Result};
use archive::Archive;
use std::io::Read;
use wharf_api::progress::Message;
use wharf_spec::{ImageConfig, ImageId, ImageRef, Platform};
use wharf_store::{LayerRef, chain_id};

/// Who is told how far it is.
#[derive(Clone)]
pub(super) struct Report(Progress);

impl Report {
    pub(super) fn new(progress: Progress) -> Self {
        Self(progress)
    }

    /// A line that matters. When the client left, the next read of its body says so.
    fn say(&self, text: String) {
        let _ = self.0.blocking_send(Message::stream(text));
    }

    /// How far a layer is; nobody waits for it to be seen.
    fn layer(&self, id: &str, current: u64, total: u64) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let progress = wharf_api::progress::Progress {
            current: signed(current),
            total: signed(total),
            ..Default::default()
        };
        let _ = self.0.try_send(Message::progress(id, "Loading layer", progress));
    }
}

/// One image of an archive: where its parts are.
struct Entry {
    config: Vec<u8>,
    /// Paths, bottom first.
    layers: Vec<Vec<u8>>,
    names: Vec<ImageRef>,
    parent: Option<ImageId>,
}

impl Inner {
    /// Of `wanted` only, if there is one.
    pub(super) fn load(
        &self,
        source: impl Read + Send,
        wanted: Option<&Platform>,
        report: &Report,
    ) -> Result<()> {
        let mut archive = Archive::read(self, source, report)?;
        let entries = match archive.bytes(b"manifest.json")? {
            Some(manifest) => docker::entries(&mut archive, &manifest)?,
            None => match archive.bytes(b"index.json")? {
                Some(index) => oci::entries(&mut archive, &index, wanted)?,
                None => return Err(invalid("invalid archive: does not contain a manifest.json")),
            },
        };
        let mut loaded = Vec::new();
        let mut last_is_named = false;
        for entry in entries {
            let config = self.checked_config(&entry)?;
            if wanted.is_some_and(|wanted| !wanted.is_same_as(&config.platform())) {
                continue;
            }
            let id = self.load_image(&mut archive, &entry, &config, report)?;
            last_is_named = !entry.names.is_empty();
            self.emit("load", id, &id.to_string());
            loaded.push((id, entry.parent));
        }
        self.set_parents(&loaded)?;
        if !last_is_named {
            // All of them or none, as Docker does.
            report.say(loaded.iter().map(|(id, _)| format!("Loaded image ID: {id}\n")).collect());
        }
        Ok(())
    }

    fn checked_config(&self, entry: &Entry) -> Result<ImageConfig> {
        let config = ImageConfig::parse(&entry.config).map_err(|error| invalid(error.to_string()))?;
        if !config.os.is_empty() && config.os != "linux" {
            return Err(invalid(format!("cannot load {} image on linux", config.os)));
        }
        let (expected, actual) = (entry.layers.len(), config.diff_ids().len());
        if expected != actual {
            return Err(invalid(format!(
                "invalid manifest, layers length mismatch: expected {expected}, got {actual}"
            )));
        }
        Ok(config)
    }

    fn load_image(
        &self,
        archive: &mut Archive,
        entry: &Entry,
        config: &ImageConfig,
        report: &Report,
    ) -> Result<ImageId> {
        let mut top: Option<LayerRef> = None;
        for (at, (diff, path)) in config.diff_ids().iter().zip(&entry.layers).enumerate() {
            let chain = chain_id(top.as_ref().map(|layer| layer.chain_id), *diff);
            let layer = match self.store.layers.get(chain) {
                Ok(layer) => layer,
                Err(_) => {
                    let unpacked = archive.layer(self, path, *diff, report)?;
                    if unpacked.diff_id != *diff {
                        let got = unpacked.diff_id;
                        return Err(invalid(format!(
                            "invalid diffID for layer {at}: expected \"{diff}\", got \"{got}\""
                        )));
                    }
                    self.store.layers.register(unpacked, top.as_ref()).map_err(store_error)?
                }
            };
            top = Some(layer);
        }
        if entry.names.is_empty() {
            return Ok(self.store.images.create(&entry.config)?.id);
        }
        self.store
            .create_named(&entry.config, |id| self.set_loaded_tags(id, &entry.names, report).map(|()| id))
    }

    /// All names or none: a crash leaves no image with a part of them.
    fn set_loaded_tags(&self, id: ImageId, names: &[ImageRef], report: &Report) -> Result<()> {
        let previous: Vec<_> = names.iter().map(|name| self.store.references.get(name)).collect();
        self.store.references.add_tags(names, id).map_err(store_error)?;
        for (name, previous) in names.iter().zip(previous) {
            let familiar = name.familiar_string();
            if let Some(previous) = previous.filter(|previous| *previous != id) {
                report.say(format!(
                    "The image {familiar} already exists, renaming the old one with ID {previous} to empty string\n"
                ));
            }
            report.say(format!("Loaded image: {familiar}\n"));
        }
        Ok(())
    }

    /// Parents count if they are in the archive too, and their history is the beginning of the child's.
    fn set_parents(&self, loaded: &[(ImageId, Option<ImageId>)]) -> Result<()> {
        for (id, parent) in loaded {
            let Some(parent) = parent.filter(|p| p != id && loaded.iter().any(|(other, _)| other == p))
            else {
                continue;
            };
            let get = |id| self.store.images.get(id).map_err(store_error);
            if !is_parent(&get(parent)?.config, &get(*id)?.config) {
                return Err(invalid(format!("image {parent} is not a valid parent for {id}")));
            }
            self.store.images.set_parent(*id, parent).map_err(store_error)?;
        }
        Ok(())
    }
}

fn is_parent(parent: &ImageConfig, child: &ImageConfig) -> bool {
    let (old, new) = (&parent.history, &child.history);
    (old.is_empty() && new.is_empty()) || (new.len() == old.len() + 1 && new.starts_with(old))
}

fn invalid(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}
