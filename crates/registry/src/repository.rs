//! One repository at one endpoint: tags, manifests, configs.
//!
//! Source: OCI distribution-spec, "Pull", "Content Discovery".

use crate::{
    Blob, Error, Scheme,
    blob::Endurance,
    exchange::{Exchange, read_error},
    transport::{Answer, Outgoing},
    url::Url,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use wharf_spec::{Descriptor, Digest, ImageRef, Manifest, media_type};

/// Larger manifests are refused (source: distribution-spec, "manifests ... 4 megabytes").
pub(crate) const MANIFEST_MAX: usize = 4 << 20;
const CONFIG_MAX: u64 = 8 << 20;
const TAGS_MAX: usize = 100_000;
const CONFIG_ATTEMPTS: u32 = 5;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest as it came.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// Digest of the bytes.
    pub digest: Digest,
    /// What the registry, else the document, says it is.
    pub media_type: String,
    /// The bytes, to be kept as they are.
    pub bytes: Bytes,
    /// What they say.
    pub manifest: Manifest,
}

/// One repository at one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(crate) exchange: Arc<Exchange>,
    image: ImageRef,
    endurance: Endurance,
}

impl Repository {
    pub(crate) fn new(exchange: Exchange, image: &ImageRef, endurance: Endurance) -> Self {
        Self { exchange: Arc::new(exchange), image: image.repository(), endurance }
    }

    /// The repository's name, without tag and digest.
    pub const fn name(&self) -> &ImageRef {
        &self.image
    }

    /// Whether it is reached with encryption.
    pub fn scheme(&self) -> Scheme {
        self.exchange.endpoint.scheme()
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.exchange.endpoint.url(&format!("{}/{path}", self.image.path()))
    }

    /// What the tag stands for, without fetching it: digest, media type, size. `None` when the registry does
    /// not say it in the headers, or says no: then [`Self::manifest`] tells more.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn tag_descriptor(&self, tag: &str) -> Result<Option<Descriptor>, Error> {
        let answer = self.exchange.send(self.manifest_request(Method::HEAD, tag), &[]).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let Some(digest) = header_digest(&answer) else { return Ok(None) };
        let size = answer.header(header::CONTENT_LENGTH).parse().unwrap_or(0);
        Ok(Some(Descriptor::new(answer.header(header::CONTENT_TYPE), digest, size)))
    }

    /// The manifest or index of a tag (`latest` when there is none) or, if there is one, of a digest.
    ///
    /// # Errors
    /// When it is not there, is not what the digest says, or is malformed.
    pub async fn manifest(&self, image: &ImageRef) -> Result<FetchedManifest, Error> {
        match image.digest() {
            Some(digest) => self.manifest_by_digest(digest).await,
            None => self.fetch_manifest(image.tag_or_latest(), None).await,
        }
    }

    /// The manifest or index of this digest.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub async fn manifest_by_digest(&self, digest: &Digest) -> Result<FetchedManifest, Error> {
        self.fetch_manifest(&digest.to_string(), Some(digest)).await
    }

    async fn fetch_manifest(
        &self,
        reference: &str,
        expected: Option<&Digest>,
    ) -> Result<FetchedManifest, Error> {
        let answer = self.exchange.send_ok(self.manifest_request(Method::GET, reference)).await?;
        let content_type = answer.header(header::CONTENT_TYPE).to_owned();
        let stated = header_digest(&answer);
        let bytes = answer.bytes(MANIFEST_MAX).await?;
        let digest = digest_of(&bytes);
        if let Some(wrong) = [expected.copied(), stated].into_iter().flatten().find(|d| *d != digest) {
            return Err(Error::ManifestDigest(wrong));
        }
        let manifest = Manifest::parse(&content_type, &bytes)?;
        let media_type = manifest_type(&content_type, &manifest);
        Ok(FetchedManifest { digest, media_type, bytes, manifest })
    }

    fn manifest_request(&self, method: Method, reference: &str) -> Outgoing {
        let mut outgoing = self.exchange.outgoing(method, self.url(&format!("manifests/{reference}")));
        accept_manifests(&mut outgoing.headers);
        outgoing
    }

    /// The image config, whole.
    ///
    /// # Errors
    /// When it is not there, not what the digest says, or larger than 8 MiB.
    pub async fn config(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        if descriptor.size > CONFIG_MAX {
            let url = self.blob_url(&descriptor.digest).to_string();
            return Err(Error::TooLarge { url, limit: CONFIG_MAX as usize });
        }
        let fetched = self.config_bytes(descriptor).await.and_then(|bytes| {
            let is_right = digest_of(&bytes) == descriptor.digest;
            if is_right { Ok(bytes) } else { Err(Error::ConfigDigest(descriptor.digest)) }
        });
        fetched.map_err(|error| Error::Config { source: Box::new(error) })
    }

    /// Tries several times (moby: `retry` in `pull_v2.go`, which counts one too many at the end).
    async fn config_bytes(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let mut wait = Duration::from_millis(250);
        let mut attempts = 1;
        loop {
            let error = match self.config_once(descriptor).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            let is_last = attempts == CONFIG_ATTEMPTS;
            if is_last || !error.is_passing() {
                return Err(Error::Attempts {
                    attempts: attempts + u32::from(is_last),
                    source: Box::new(error),
                });
            }
            tracing::debug!(%error, "fetching the image config again");
            tokio::time::sleep(wait).await;
            wait *= 2;
            attempts += 1;
        }
    }

    async fn config_once(&self, descriptor: &Descriptor) -> Result<Bytes, Error> {
        let outgoing = self.exchange.outgoing(Method::GET, self.blob_url(&descriptor.digest));
        self.exchange.send_ok(outgoing).await?.bytes(CONFIG_MAX as usize).await
    }

    /// A blob as a stream, which is resumed when the connection breaks and verified at its end.
    pub fn blob(&self, descriptor: &Descriptor) -> Blob {
        Blob::new(self.clone(), descriptor.clone(), self.endurance)
    }

    /// How long a blob is, if the repository has it.
    ///
    /// # Errors
    /// When the registry does not answer, or with something other than yes or no.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let outgoing = self.exchange.outgoing(Method::HEAD, self.blob_url(digest));
        let answer = self.exchange.send(outgoing, &[]).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                Ok(Some(answer.header(header::CONTENT_LENGTH).parse().unwrap_or(0)))
            }
            _ => Err(read_error(answer).await),
        }
    }

    pub(crate) fn blob_url(&self, digest: &Digest) -> Url {
        self.url(&format!("blobs/{digest}"))
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// When the registry refuses, or has more than 100,000.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut url = self.url("tags/list");
        loop {
            let answer = self.exchange.send_ok(self.exchange.outgoing(Method::GET, url.clone())).await?;
            let next = next_page(answer.header(header::LINK)).map(str::to_owned);
            let bytes = answer.bytes(MANIFEST_MAX).await?;
            let page: Page =
                serde_json::from_slice(&bytes).map_err(|e| Error::protocol(&url, e.to_string()))?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > TAGS_MAX {
                return Err(Error::TooLarge { url: url.to_string(), limit: TAGS_MAX });
            }
            match next {
                Some(next) if tags.len() > before => url = url.join(&next)?,
                _ => return Ok(tags),
            }
        }
    }

    /// Stores a manifest under a tag or a digest and gives its digest back.
    ///
    /// # Errors
    /// When the registry refuses it or made something else of it.
    pub async fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, Error> {
        let digest = digest_of(&bytes);
        let mut outgoing = self.exchange.outgoing(Method::PUT, self.url(&format!("manifests/{reference}")));
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| Error::protocol(&outgoing.url, "bad media type"))?;
        outgoing.headers.insert(header::CONTENT_TYPE, kind);
        outgoing.payload = crate::transport::Payload::Bytes(bytes);
        let answer = self.exchange.send_ok(outgoing).await?;
        match header_digest(&answer) {
            Some(stored) if stored != digest => Err(Error::ManifestDigest(digest)),
            _ => Ok(digest),
        }
    }
}

fn accept_manifests(headers: &mut HeaderMap) {
    for kind in [
        media_type::DOCKER_MANIFEST,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
        media_type::OCI_INDEX,
        media_type::DOCKER_SCHEMA1_SIGNED,
        "application/json",
    ] {
        headers.append(header::ACCEPT, HeaderValue::from_static(kind));
    }
}

fn manifest_type(content_type: &str, manifest: &Manifest) -> String {
    let stated = content_type.split(';').next().unwrap_or_default().trim();
    if media_type::is_manifest(stated) || media_type::is_index(stated) {
        return stated.to_owned();
    }
    let (own, default) = match manifest {
        Manifest::Image(image) => (&image.media_type, media_type::OCI_MANIFEST),
        Manifest::Index(index) => (&index.media_type, media_type::OCI_INDEX),
    };
    if own.is_empty() { default.to_owned() } else { own.clone() }
}

fn header_digest(answer: &Answer) -> Option<Digest> {
    answer.header(CONTENT_DIGEST).parse().ok()
}

/// The address in `Link: <...>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (address, rest) = link.trim_start().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(address)
}

/// The digest of bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    digest_from(ring::digest::digest(&ring::digest::SHA256, bytes))
}

pub(crate) fn digest_from(hash: ring::digest::Digest) -> Digest {
    let mut raw = [0; 32];
    raw.copy_from_slice(hash.as_ref());
    Digest::from_bytes(raw)
}
