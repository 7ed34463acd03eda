//! Images: names, ids, configs, and the layers that containers are made of.
//!
//! Entry points: [`Images::resolve`] for what a name means, one method per verb of the API, and [`Layers`]
//! for the writable layers of containers.

mod layers;

pub use layers::{LayerSizes, Layers};

use crate::{Config, Error, Events, Filters, Result, containers::Index};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio::sync::mpsc;
use wharf_api::{auth::AuthConfig, image as api, progress};
use wharf_spec::{ImageConfig, ImageId, Platform};

/// The handle of images: cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

#[allow(dead_code, reason = "read by the verbs as they are written")]
struct Inner {
    config: Arc<Config>,
    events: Events,
    /// Which containers use which image.
    containers: Index,
    layers: Layers,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its config.
    pub id: ImageId,
    /// Its config.
    pub config: Arc<ImageConfig>,
}

/// A tar stream of a client's, or for one.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Where a verb that takes long says how far it is: one message per line of the answer.
pub type Progress = mpsc::Sender<progress::Message>;

/// For [`Images::list`].
#[derive(Debug, Clone, Default)]
pub struct ListImages {
    /// Also those that are only parents of others.
    pub all: bool,
    /// With the size that is shared with other images.
    pub shared_size: bool,
    /// With their platforms.
    pub manifests: bool,
    /// `?filters=`.
    pub filters: Filters,
}

/// For [`Images::remove`].
#[derive(Debug, Clone, Default)]
pub struct RemoveImage {
    /// Though containers use it or several names stand for it.
    pub force: bool,
    /// Keep parents without names.
    pub no_prune: bool,
    /// Only these.
    pub platforms: Vec<Platform>,
}

/// For [`Images::import`].
#[derive(Debug, Clone, Default)]
pub struct ImportImage {
    /// What to call it; empty for nothing.
    pub repository: String,
    /// Its tag; empty is `latest`.
    pub tag: String,
    /// The comment of its history.
    pub message: String,
    /// Dockerfile instructions applied to its config.
    pub changes: Vec<String>,
    /// Its platform; `None` is ours.
    pub platform: Option<Platform>,
}

/// For [`Images::pull`] and [`Images::push`].
#[derive(Debug, Clone, Default)]
pub struct Transfer {
    /// The image as the client names it, with tag or digest if given.
    pub reference: String,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Who asks the registry.
    pub auth: Option<AuthConfig>,
    /// `X-Meta-*` headers.
    pub meta_headers: BTreeMap<String, Vec<String>>,
}

impl Images {
    /// Opens the image store of a data-root.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn open(config: Arc<Config>, events: Events, containers: Index) -> Result<Self> {
        let layers = Layers::open(&config)?;
        Ok(Self(Arc::new(Inner { config, events, containers, layers })))
    }

    /// Writable layers of containers.
    pub fn layers(&self) -> &Layers {
        &self.0.layers
    }

    /// The image that a reference, id or id prefix stands for.
    ///
    /// # Errors
    /// `No such image: ...`.
    pub async fn resolve(&self, name: &str, _platform: Option<&Platform>) -> Result<Image> {
        Err(Error::NoSuchImage(name.into()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        0
    }

    /// `GET /images/json`
    pub async fn list(&self, _options: ListImages) -> Result<Vec<api::Summary>> {
        Err(Error::NotImplemented("image list"))
    }

    /// `GET /images/{name}/json`
    pub async fn inspect(&self, _name: &str) -> Result<api::InspectResponse> {
        Err(Error::NotImplemented("image inspect"))
    }

    /// `GET /images/{name}/history`
    pub async fn history(&self, _name: &str) -> Result<Vec<api::HistoryItem>> {
        Err(Error::NotImplemented("image history"))
    }

    /// `POST /images/{name}/tag`
    pub async fn tag(&self, _name: &str, _repository: &str, _tag: &str) -> Result<()> {
        Err(Error::NotImplemented("image tag"))
    }

    /// `DELETE /images/{name}`
    pub async fn remove(&self, _name: &str, _options: RemoveImage) -> Result<Vec<api::DeleteItem>> {
        Err(Error::NotImplemented("image remove"))
    }

    /// `POST /images/prune`
    pub async fn prune(&self, _filters: Filters) -> Result<api::PruneReport> {
        Err(Error::NotImplemented("image prune"))
    }

    /// `POST /images/load`
    pub async fn load(&self, _tar: ByteStream, _progress: Progress) -> Result<()> {
        Err(Error::NotImplemented("image load"))
    }

    /// `GET /images/get`
    pub async fn save(&self, _names: Vec<String>) -> Result<ByteStream> {
        Err(Error::NotImplemented("image save"))
    }

    /// `POST /images/create?fromSrc=`
    pub async fn import(&self, _tar: ByteStream, _options: ImportImage, _progress: Progress) -> Result<()> {
        Err(Error::NotImplemented("image import"))
    }

    /// `POST /images/create?fromImage=`
    pub async fn pull(&self, _transfer: Transfer, _progress: Progress) -> Result<()> {
        Err(Error::NotImplemented("image pull"))
    }

    /// `POST /images/{name}/push`
    pub async fn push(&self, _transfer: Transfer, _progress: Progress) -> Result<()> {
        Err(Error::NotImplemented("image push"))
    }

    /// `GET /distribution/{name}/json`
    pub async fn distribution(&self, _transfer: Transfer) -> Result<api::DistributionInspect> {
        Err(Error::NotImplemented("distribution inspect"))
    }

    /// The directory of the image store, as `docker info` shows it.
    pub fn root(&self) -> PathBuf {
        self.0.config.data_root.clone()
    }
}
