//! `POST /images/create?fromImage=` (source: moby `daemon/internal/distribution/pull.go`, `pull_v2.go`,
//! `daemon/images/image_pull.go`).
//!
//! Here: from a reference to the digest of its manifest, and back to the names in the store. What lies
//! between has files of its own: [`choose`] picks the image out of an index, [`layers`] brings what is missing
//! ([`transfer`] one layer, [`feed`] its bytes to the extractor), [`report`] tells the client.
//!
//! Invariants: an image is created when all its layers are registered, and named when it is created; a layer
//! is registered when its blob has the digest of the manifest and its archive the digest of the config. All
//! tasks of a pull end when its future is dropped; what they extracted is removed then.

mod choose;
mod downloads;
mod feed;
mod hold;
mod inspect;
mod layers;
mod report;
#[cfg(test)]
mod tests;
mod transfer;

pub(super) use downloads::Downloads;
pub(super) use inspect::inspect;
pub(super) use report::{Pace, Report};

use super::{Inner, Progress, Transfer, store_error};
use crate::{Error, Result, blocking::blocking, events::EventKind};
use bytes::Bytes;
use hold::Hold;
use std::sync::Arc;
use wharf_api::StringMap;
use wharf_registry::{Access, FetchedManifest, Repository};
use wharf_spec::{
    Digest, ImageConfig, ImageId, ImageManifest, ImageRef, Manifest, ParseManifestError, Platform, media_type,
};
use wharf_store::LayerRef;

/// Why a pull from one endpoint failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry is at fault: another endpoint may do better.
    Registry(wharf_registry::Error),
    /// The request or this machine is at fault.
    Engine(Error),
}

impl From<wharf_registry::Error> for Failure {
    fn from(error: wharf_registry::Error) -> Self {
        Self::Registry(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// A pull from one endpoint. Cheap to clone.
#[derive(Clone)]
struct Pull {
    inner: Arc<Inner>,
    repository: Repository,
    report: Report,
    platform: Option<Platform>,
}

/// What became of one reference.
struct Pulled {
    /// The name stands for another image than before.
    newer: bool,
    /// An index says that the image is of the platform.
    listed: bool,
}

/// An image that is here, with its name still to come.
enum Arrived {
    /// It was here before.
    Known(ImageId),
    /// All its layers are here, and held so.
    New { config: Bytes, top: Option<Hold<LayerRef>> },
}

/// Pulls a reference, or every tag of a repository.
pub(super) async fn run(inner: &Arc<Inner>, transfer: Transfer, progress: Progress) -> Result<()> {
    let reference: ImageRef = transfer
        .reference
        .parse()
        .map_err(|e: wharf_spec::ParseReferenceError| Error::Invalid(e.to_string()))?;
    let reference = if transfer.all_tags { reference } else { reference.or_latest() };
    let auth = credentials(transfer.auth);
    let report = Report::start(progress);
    let opened = inner.registry().endpoints(&reference, &auth, Access::Pull).await;
    let mut endpoints = opened.map_err(registry_error)?.with_headers(&transfer.meta_headers);
    let platform = transfer.platform;
    let pulled = loop {
        let repository = endpoints.next().await.map_err(registry_error)?;
        let (inner, report) = (Arc::clone(inner), report.clone());
        let pull = Pull { inner, repository, report, platform: platform.clone() };
        match pull.everything(&reference).await {
            Ok(pulled) => break pulled,
            Err(Failure::Registry(error)) => endpoints.failed(error).map_err(registry_error)?,
            Err(Failure::Engine(error)) => return Err(error),
        }
    };
    inner.emit_transfer("pull", &reference);
    match platform {
        Some(wanted) if !pulled.listed => inner.warn_of_platform(&reference, &wanted, &report),
        _ => Ok(()),
    }
}

impl Pull {
    async fn everything(&self, reference: &ImageRef) -> Result<Pulled, Failure> {
        let mut all = Pulled { newer: false, listed: false };
        if reference.is_name_only() {
            for tag in self.repository.tags().await? {
                let tagged = reference.clone().with_tag(&tag);
                let tagged = tagged.map_err(|e| Error::Invalid(e.to_string()))?;
                let one = self.one(&tagged).await?;
                all = Pulled { newer: all.newer || one.newer, listed: one.listed };
            }
        } else {
            all = self.one(reference).await?;
        }
        let said = if all.newer { "Downloaded newer image" } else { "Image is up to date" };
        self.report.line("", format!("Status: {said} for {}", reference.familiar_string()));
        Ok(all)
    }

    /// One tag or digest.
    async fn one(&self, reference: &ImageRef) -> Result<Pulled, Failure> {
        if let Some((digest, image)) = self.known(reference).await? {
            self.say_pulling(reference);
            let newer = self.name(reference, digest, Arrived::Known(image)).await?;
            return Ok(Pulled { newer, listed: true });
        }
        let fetched = match self.repository.manifest(reference).await {
            Err(wharf_registry::Error::Manifest(ParseManifestError::Schema1)) => {
                self.say_pulling(reference);
                return Err(choose::schema1(reference).into());
            }
            other => other?,
        };
        if let Manifest::Image(manifest) = &fetched.manifest
            && fetched.media_type == media_type::DOCKER_MANIFEST
        {
            choose::check_is_image(manifest)?;
        }
        self.say_pulling(reference);
        let digest = fetched.digest;
        let listed = matches!(fetched.manifest, Manifest::Index(_));
        let manifest = self.choose(reference, fetched).await?;
        let arrived = self.content(&manifest).await?;
        let newer = self.name(reference, digest, arrived).await?;
        Ok(Pulled { newer, listed })
    }

    fn say_pulling(&self, reference: &ImageRef) {
        let id = match reference.digest() {
            Some(_) => reference.to_string(),
            None => reference.tag_or_latest().to_owned(),
        };
        self.report.line(id, format!("Pulling from {}", reference.path()));
    }

    /// The image, if it is known by the digest that the reference has at the registry: then there is nothing
    /// to fetch, and nothing that counts against a registry's limits.
    async fn known(&self, reference: &ImageRef) -> Result<Option<(Digest, ImageId)>, Failure> {
        let store = &self.inner.store;
        let repository = reference.repository();
        let has_digests =
            store.references.in_repository(&repository).iter().any(|(name, _)| name.digest().is_some());
        if !has_digests {
            return Ok(None);
        }
        let digest = match reference.digest() {
            Some(digest) => *digest,
            None => match self.repository.tag_descriptor(reference.tag_or_latest()).await? {
                Some(descriptor) => descriptor.digest,
                None => return Ok(None),
            },
        };
        let id = store.references.get(&repository.with_digest(digest));
        let Some(image) = id.and_then(|id| store.images.get(id).ok()) else { return Ok(None) };
        // An index may have a better image than the one that was pulled for another platform.
        let wanted = self.platform.clone().unwrap_or_else(Platform::host_maximum);
        let is_best = choose::is_best(&wanted, &image.config.platform());
        Ok(is_best.then_some((digest, image.id)))
    }

    /// The manifest itself, or the one in the index that suits the platform best.
    async fn choose(&self, reference: &ImageRef, fetched: FetchedManifest) -> Result<ImageManifest, Failure> {
        let wanted = self.platform.clone().unwrap_or_else(Platform::host_maximum);
        let index = match fetched.manifest {
            Manifest::Image(manifest) => return Ok(manifest),
            Manifest::Index(index) => index,
        };
        let mut waiting = choose::candidates(index, &wanted);
        for _ in 0..choose::MANIFESTS_MAX {
            let Some(descriptor) = waiting.pop_front() else { break };
            match self.repository.manifest_by_digest(&descriptor.digest).await.map(|f| f.manifest) {
                Ok(Manifest::Image(manifest)) => return Ok(manifest),
                Ok(Manifest::Index(inner)) => {
                    choose::candidates(inner, &wanted).into_iter().rev().for_each(|d| waiting.push_front(d));
                }
                Err(wharf_registry::Error::Manifest(ParseManifestError::Schema1)) => {
                    return Err(choose::schema1(reference).into());
                }
                // Kinds nobody knows yet are to be skipped (source: OCI image-spec, image-index.md).
                Err(wharf_registry::Error::Manifest(ParseManifestError::MediaType(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(choose::no_match(self.platform.as_ref()).into())
    }

    /// Config and layers.
    async fn content(&self, manifest: &ImageManifest) -> Result<Arrived, Failure> {
        let id = ImageId(manifest.config.digest);
        if self.inner.store.images.get(id).is_ok() {
            return Ok(Arrived::Known(id));
        }
        choose::check_media_types(manifest)?;
        let raw = self.repository.config(&manifest.config).await?;
        let config = ImageConfig::parse(&raw).map_err(|error| match error {
            wharf_spec::ParseImageError::NoRootFs => {
                Error::Refused("invalid rootfs in image configuration".into())
            }
            other => Error::Refused(other.to_string()),
        })?;
        choose::check_config(&config, manifest)?;
        let top = self.layers(manifest, config.diff_ids()).await?;
        Ok(Arrived::New { config: raw, top })
    }

    /// Creates the image if it is new and gives it its names. Whether the reference stood for another one
    /// before.
    async fn name(&self, reference: &ImageRef, digest: Digest, arrived: Arrived) -> Result<bool, Failure> {
        self.report.line("", format!("Digest: {digest}"));
        let (inner, reference) = (Arc::clone(&self.inner), reference.clone());
        let named = blocking(move || match arrived {
            Arrived::Known(id) => inner.name_pulled(&reference, digest, id),
            Arrived::New { config, top } => {
                let name = |id| inner.name_pulled(&reference, digest, id);
                let newer = inner.store.create_named(&config, name)?;
                // A prune may have taken the image while it had no name. Its layers were held.
                inner.store.images.create(&config).map_err(store_error)?;
                drop(top);
                Ok(newer)
            }
        });
        Ok(named.await?)
    }
}

impl Inner {
    fn name_pulled(&self, reference: &ImageRef, digest: Digest, id: ImageId) -> Result<bool> {
        let references = &self.store.references;
        let changed = references.get(reference) != Some(id);
        let known = reference.repository().with_digest(digest);
        let tag = (reference.digest().is_none()).then_some(reference);
        if !references.add_pulled(tag, &known, id).map_err(store_error)? {
            // The index was pulled for another platform before: its digest stays with that image.
            tracing::warn!(digest = %known, image = %id, "the digest stands for another image");
        }
        Ok(changed)
    }

    /// The event has the name as its id (source: moby `daemon/internal/distribution/{pull,push}.go`).
    pub(super) fn emit_transfer(&self, action: &str, reference: &ImageRef) {
        let name = reference.familiar_string();
        let image = self.find(&name).ok();
        let labels = image.and_then(|image| image.config.config.as_ref().and_then(|run| run.labels.clone()));
        let mut attributes: StringMap = labels.unwrap_or_default();
        attributes.insert("name".into(), reference.familiar_name());
        self.events.emit(EventKind::Image, action, name, attributes);
    }

    /// An image without index may be of any platform: it is taken, with a warning.
    fn warn_of_platform(&self, reference: &ImageRef, wanted: &Platform, report: &Report) -> Result<()> {
        match self.resolve(&reference.to_string(), Some(wanted)) {
            Err(Error::NotFound(text)) => {
                tracing::warn!(image = %reference, "ignoring platform mismatch on single-arch image");
                report.line("", format!("WARNING: {text}"));
                Ok(())
            }
            other => other.map(drop),
        }
    }
}

/// As the registry client has them.
pub(super) fn credentials(auth: Option<wharf_api::auth::AuthConfig>) -> wharf_registry::AuthConfig {
    let auth = auth.unwrap_or_default();
    wharf_registry::AuthConfig {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        serveraddress: auth.serveraddress,
        identitytoken: auth.identitytoken,
        registrytoken: auth.registrytoken,
        ..wharf_registry::AuthConfig::default()
    }
    .completed()
}

/// The registry client's errors speak for themselves.
pub(super) fn registry_error(error: wharf_registry::Error) -> Error {
    Error::Registry(error.to_string(), error.kind())
}
