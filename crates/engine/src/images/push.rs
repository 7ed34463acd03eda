//! `POST /images/{name}/push` (source: moby `daemon/internal/distribution/push.go`, `push_v2.go`,
//! `daemon/images/image_push.go`).
//!
//! Here: from a name to its tags, and from an image to its manifest at the registry. What lies between has
//! files of its own: [`layers`] decides what must be sent, by [`candidates`]; [`send`] sends a layer,
//! [`source`] makes its bytes.
//!
//! Invariants: a manifest is put when all that it names is at the registry; what is sent of a layer is its
//! archive with the digest of the image's config. All tasks of a push end when its future is dropped.

mod candidates;
mod layers;
mod send;
mod source;
mod turns;

pub(super) use turns::Turns;

use super::{
    Inner, Progress, Transfer,
    pull::{Failure, Report, credentials, registry_error},
    store_error,
};
use crate::{Error, Result, blocking::blocking};
use bytes::Bytes;
use candidates::Key;
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use wharf_registry::{Access, AuthConfig, Repository};
use wharf_spec::{DiffId, Digest, ImageId, ImageRef, media_type};
use wharf_store::{Image, Layer, LayerRef};

/// A push to one endpoint. Cheap to clone.
#[derive(Clone)]
struct Push {
    inner: Arc<Inner>,
    repository: Repository,
    report: Report,
    key: Key,
    has_credentials: bool,
    /// Layers that the repository is known to have.
    sent: Arc<Mutex<HashMap<DiffId, Descriptor>>>,
}

/// An image to be pushed, its layers held.
struct Selected {
    image: Arc<Image>,
    raw: Bytes,
    /// From the bottom up.
    layers: Vec<Arc<Layer>>,
    _hold: Option<LayerRef>,
}

/// A manifest as Docker's is written: the digest of what is pushed depends on every byte.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// A descriptor with its keys in the order of Docker's manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    size: u64,
    digest: Digest,
}

impl Descriptor {
    const fn layer(digest: Digest, size: u64) -> Self {
        Self { media_type: media_type::DOCKER_LAYER_GZIP, size, digest }
    }
}

/// Pushes a tag, or every tag of a repository.
pub(super) async fn run(inner: &Arc<Inner>, transfer: Transfer, progress: Progress) -> Result<()> {
    let reference: ImageRef = transfer
        .reference
        .parse()
        .map_err(|e: wharf_spec::ParseReferenceError| Error::Invalid(e.to_string()))?;
    if let Some(platform) = &transfer.platform {
        inner.resolve(&reference.to_string(), Some(platform))?;
    }
    let auth = credentials(transfer.auth);
    let opened = inner.registry().endpoints(&reference, &auth, Access::Push).await;
    let mut endpoints = opened.map_err(registry_error)?.with_headers(&transfer.meta_headers);
    let report = Report::start(progress);
    report.line("", format!("The push refers to repository [{}]", reference.name()));
    if inner.store.references.in_repository(&reference).is_empty() {
        let name = reference.familiar_name();
        return Err(Error::Refused(format!("An image does not exist locally with the tag: {name}")));
    }
    loop {
        let repository = endpoints.next().await.map_err(registry_error)?;
        let push = Push::new(inner, repository, &report, &auth);
        match push.everything(&reference).await {
            Ok(()) => break,
            Err(Failure::Registry(error)) => endpoints.failed_plainly(error).map_err(registry_error)?,
            Err(Failure::Engine(error)) => return Err(error),
        }
    }
    inner.emit_transfer("push", &reference);
    Ok(())
}

impl Push {
    fn new(inner: &Arc<Inner>, repository: Repository, report: &Report, auth: &AuthConfig) -> Self {
        let by_name = !auth.username.is_empty() && !auth.password.is_empty();
        Self {
            inner: Arc::clone(inner),
            repository,
            report: report.clone(),
            key: Key::of(auth),
            has_credentials: by_name || !auth.registrytoken.is_empty(),
            sent: Arc::default(),
        }
    }

    async fn everything(&self, reference: &ImageRef) -> Result<(), Failure> {
        let references = &self.inner.store.references;
        if reference.tag().is_some() {
            let missing = || format!("tag does not exist: {}", reference.familiar_string());
            let image = references.get(reference).ok_or_else(|| Error::Refused(missing()))?;
            return self.tag(reference, image).await;
        }
        if reference.digest().is_some() {
            return Err(Error::Refused("cannot push a digest reference".into()).into());
        }
        let mut tags = references.in_repository(reference);
        tags.retain(|(name, _)| name.digest().is_none());
        tags.sort_by_key(|(name, _)| name.to_string());
        if tags.is_empty() {
            let name = reference.familiar_name();
            return Err(Error::Refused(format!("no tags to push for {name}")).into());
        }
        for (name, image) in tags {
            self.tag(&name, image).await?;
        }
        Ok(())
    }

    /// One tag.
    async fn tag(&self, reference: &ImageRef, id: ImageId) -> Result<(), Failure> {
        let (inner, name) = (Arc::clone(&self.inner), reference.familiar_string());
        let selected = blocking(move || inner.select_for_push(&name, id)).await?;
        let layers = self.layers(&selected.layers).await?;
        let config = self.config(&selected).await?;
        let manifest =
            Manifest { schema_version: 2, media_type: media_type::DOCKER_MANIFEST, config, layers };
        let manifest = Bytes::from(indented(&manifest));
        let (tag, size) = (reference.tag_or_latest(), manifest.len());
        let digest = self.repository.put_manifest(tag, media_type::DOCKER_MANIFEST, manifest).await?;
        self.report.line("", format!("{tag}: digest: {digest} size: {size}"));
        let (inner, known) = (Arc::clone(&self.inner), reference.repository().with_digest(digest));
        blocking(move || inner.name_pushed(&known, id)).await?;
        self.report.aux(serde_json::json!({"Tag": tag, "Digest": digest, "Size": size}));
        Ok(())
    }

    /// The config, sent if it is not there.
    async fn config(&self, selected: &Selected) -> Result<Descriptor, Failure> {
        let digest = selected.image.id.0;
        if self.repository.blob_size(&digest).await?.is_none() {
            let upload = self.repository.start_upload().await?;
            upload.finish(&digest, selected.raw.clone()).await?;
        }
        Ok(Descriptor { media_type: media_type::DOCKER_CONFIG, size: selected.raw.len() as u64, digest })
    }
}

impl Inner {
    fn select_for_push(&self, name: &str, id: ImageId) -> Result<Selected> {
        let missing =
            |error: String| Error::Refused(format!("could not find image from tag {name}: {error}"));
        let image = self.store.images.get(id).map_err(|error| missing(error.to_string()))?;
        let raw = self.raw(id).map_err(|error| missing(error.to_string()))?;
        let no_layer = |error| store_error(error).context("failed to get top layer from image");
        let hold = image.chain_id.map(|chain| self.store.layers.get(chain)).transpose().map_err(no_layer)?;
        let mut layers = hold.as_ref().map(|top| self.store.layers.stack(top.chain_id)).unwrap_or_default();
        layers.reverse();
        Ok(Selected { image, raw: raw.into(), layers, _hold: hold })
    }

    /// The image may be asked for by what it is at the registry. A digest that stands for another image, as
    /// after a pull of an index for another platform, keeps standing for it.
    fn name_pushed(&self, known: &ImageRef, id: ImageId) -> Result<()> {
        match self.store.references.add_digest(known, id) {
            Err(error @ wharf_store::Error::DigestConflict(_)) => {
                tracing::warn!(%error, image = %id, "the digest stands for another image");
                Ok(())
            }
            other => other.map_err(store_error),
        }
    }
}

/// JSON as Docker's client library indents it: by three spaces.
fn indented(manifest: &Manifest<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    manifest
        .serialize(&mut serde_json::Serializer::with_formatter(&mut out, form))
        .expect("a manifest is plain data");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_dockers_byte_by_byte() {
        let digest = |byte| Digest::from_bytes([byte; 32]);
        let config = Descriptor { media_type: media_type::DOCKER_CONFIG, size: 7, digest: digest(1) };
        let mut manifest =
            Manifest { schema_version: 2, media_type: media_type::DOCKER_MANIFEST, config, layers: vec![] };
        let text = String::from_utf8(indented(&manifest)).unwrap();
        let hex = "01".repeat(32);
        assert_eq!(
            text,
            format!(
                "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.docker.distribution.manifest.v2+json\",\n   \"config\": {{\n      \"mediaType\": \"application/vnd.docker.container.image.v1+json\",\n      \"size\": 7,\n      \"digest\": \"sha256:{hex}\"\n   }},\n   \"layers\": []\n}}"
            )
        );
        manifest.layers.push(Descriptor::layer(digest(2), 8));
        let text = String::from_utf8(indented(&manifest)).unwrap();
        assert!(text.contains("\"layers\": [\n      {\n         \"mediaType\": \"application/vnd.docker.image.rootfs.diff.tar.gzip\",\n         \"size\": 8,"), "{text}");
    }
}
