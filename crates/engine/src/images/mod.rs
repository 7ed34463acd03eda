//! Images: names, ids, configs, and the layers that containers are made of.
//!
//! Entry points: [`Images::resolve`] for what a name means, one method per verb of the API, and [`Layers`]
//! for the writable layers of containers. This file is the async face; each verb is a file of blocking
//! methods of `Inner`, which work on `wharf_store`.

mod cache;
mod commit;
mod import;
mod inspect;
mod layers;
mod list;
mod load;
mod pool;
mod prune;
mod pull;
mod push;
mod remove;
mod resolve;
mod save;
mod search;
mod stream;
mod tag;
#[cfg(test)]
mod tests;

pub(crate) use commit::{CommitImage, changed_config, run_config};
pub use layers::{LayerSizes, Layers};
pub use search::SearchImages;
pub(crate) use stream::{StreamReader, StreamWriter};
pub use tag::repository_and_tag;

use crate::{
    Config, Error, Events, Filters, Result, blocking::blocking, config::Reloadable, containers::Index,
    events::EventKind,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use pool::Pool;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool},
};
use tokio::sync::mpsc;
use wharf_api::{auth::AuthConfig, image as api, progress};
use wharf_registry::Registry;
use wharf_spec::{ImageConfig, ImageId, ImageRef, Platform, RunConfig};
use wharf_store::Store;

/// The handle of images: cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    events: Events,
    /// Which containers use which image.
    containers: Index,
    store: Arc<Store>,
    layers: Layers,
    /// A prune is under way.
    pruning: AtomicBool,
    registry: RwLock<Registry>,
    downloads: pull::Downloads,
    /// Places for layers that are uploaded at once.
    uploads: Pool,
    turns: push::Turns,
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

/// Where an import comes from.
pub enum ImportSource {
    /// The client sends it.
    Stream(ByteStream),
    /// It is fetched, `http://` where no scheme is given.
    Url(String),
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

impl Inner {
    fn new(config: Arc<Config>, events: Events, containers: Index, store: Arc<Store>) -> Result<Self> {
        let layers = Layers::new(Arc::clone(&store), config.container_size);
        let live = config.live.get();
        let registry = RwLock::new(registry_client(&config, &live)?);
        let downloads = pull::Downloads::new(live.max_concurrent_downloads);
        let uploads = Pool::new(live.max_concurrent_uploads);
        let pruning = AtomicBool::new(false);
        Ok(Self {
            config,
            events,
            containers,
            store,
            layers,
            pruning,
            registry,
            downloads,
            uploads,
            turns: push::Turns::default(),
        })
    }

    /// The client of registries, as it is configured now.
    fn registry(&self) -> Registry {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of an image. Its labels are attributes, and its name if it has one (source: moby
    /// `daemon/images/image_events.go`).
    fn emit(&self, action: &str, id: ImageId, name: &str) {
        let image = self.store.images.get(id).ok();
        let labels = image.and_then(|image| image.config.config.as_ref().and_then(|run| run.labels.clone()));
        let mut attributes = labels.unwrap_or_default();
        if !name.is_empty() {
            attributes.insert("name".into(), name.into());
        }
        self.events.emit(EventKind::Image, action, id.to_string(), attributes);
    }
}

/// An image store of this kind has one platform of each image (source: moby `daemon/images/image_exporter.go`).
fn one_platform(platforms: Vec<Platform>) -> Result<Option<Platform>> {
    match platforms.len() {
        0 | 1 => Ok(platforms.into_iter().next()),
        _ => Err(Error::Invalid(
            "multiple platforms not supported for this image store; use a multi-platform image store such as containerd-snapshotter"
                .into(),
        )),
    }
}

/// The store's errors speak for themselves.
fn store_error(error: wharf_store::Error) -> Error {
    Error::Store(error.to_string(), error.kind())
}

/// The registry client that the daemon's configuration asks for.
fn registry_client(config: &Config, live: &Reloadable) -> Result<Registry> {
    let config = wharf_registry::Config {
        mirrors: live.registry_mirrors.clone(),
        mirrors_of: config.registry_mirrors_of.clone(),
        certs_dir: config.registry_certs_dir.clone(),
        insecure_registries: live.insecure_registries.clone(),
        user_agent: format!("docker/{} wharf/{}", config.server_version, env!("CARGO_PKG_VERSION")),
        max_download_attempts: live.max_download_attempts,
        ..wharf_registry::Config::default()
    };
    Registry::new(&config).map_err(|error| Error::Invalid(error.to_string()))
}

impl Images {
    /// Opens the image store of a data-root.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn open(config: Arc<Config>, events: Events, containers: Index) -> Result<Self> {
        let (root, ids, limited) = (config.data_root.clone(), config.ids(), config.container_size > 0);
        let opened = blocking(move || {
            let store = Store::open_mapped(&root, ids)?;
            store.sweep()?;
            if limited && store.layers.check_quota().is_err() {
                return Err(Error::Refused(
                    "Storage option overlay2.size not supported. Filesystem does not support Project Quota: Filesystem does not support, or has not enabled quotas".into(),
                ));
            }
            Ok(store)
        });
        let store = opened.await?;
        Ok(Self(Arc::new(Inner::new(config, events, containers, Arc::new(store))?)))
    }

    /// Prepares to take over settings of transfers; what is returned does it.
    ///
    /// # Errors
    /// When a mirror or an insecure registry is malformed; nothing is changed then.
    pub(crate) fn prepare_reload(&self, live: &Reloadable) -> Result<impl FnOnce() + use<>> {
        let client = registry_client(&self.0.config, live)?;
        let (inner, downloads, uploads) =
            (Arc::clone(&self.0), live.max_concurrent_downloads, live.max_concurrent_uploads);
        Ok(move || {
            *inner.registry.write().unwrap_or_else(PoisonError::into_inner) = client;
            inner.downloads.pool.resize(downloads);
            inner.uploads.resize(uploads);
        })
    }

    /// Writable layers of containers.
    pub fn layers(&self) -> &Layers {
        &self.0.layers
    }

    /// The image that a reference, id or id prefix stands for.
    ///
    /// # Errors
    /// `No such image: ...`.
    pub async fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        // From memory: nothing here waits.
        self.0.resolve(name, platform)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.store.images.len()
    }

    /// Bytes of all layers that images stand on: `LayersSize` of disk usage.
    pub fn layers_size(&self) -> i64 {
        self.0.layers_size()
    }

    /// Waits until images are on the disk for sure: before the machine is left to itself.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn flush(&self) -> Result<()> {
        self.run(|inner| {
            inner.store.layers.flush();
            Ok(())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }

    /// `GET /images/json`
    pub async fn list(&self, options: ListImages) -> Result<Vec<api::Summary>> {
        self.run(move |inner| inner.list(&options)).await
    }

    /// `GET /images/{name}/json`
    pub async fn inspect(&self, name: &str) -> Result<api::InspectResponse> {
        let name = name.to_owned();
        self.run(move |inner| inner.inspect(&name)).await
    }

    /// `GET /images/{name}/history`
    pub async fn history(&self, name: &str) -> Result<Vec<api::HistoryItem>> {
        let name = name.to_owned();
        self.run(move |inner| inner.history(&name)).await
    }

    /// `POST /images/{name}/tag`
    pub async fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let (name, repository, tag) = (name.to_owned(), repository.to_owned(), tag.to_owned());
        self.run(move |inner| inner.tag(&name, &repository, &tag)).await
    }

    /// Makes an image of a container's changes.
    pub(crate) async fn commit(&self, new: CommitImage) -> Result<ImageId> {
        self.run(move |inner| inner.commit(&new)).await
    }

    /// The image that a build step came to earlier: made from this parent, by a container of this config. Else what
    /// the images of `from` have at its place.
    pub(crate) async fn cached(
        &self,
        parent: Option<ImageId>,
        made_by: RunConfig,
        from: Vec<ImageId>,
    ) -> Result<Option<ImageId>> {
        self.run(move |inner| inner.cached(parent, &made_by, &from)).await
    }

    /// The configs of the containers that images were built by on this parent here.
    pub(crate) async fn earlier_steps(&self, parent: Option<ImageId>) -> Result<Vec<RunConfig>> {
        self.run(move |inner| Ok(inner.earlier_steps(parent))).await
    }

    /// Gives an image a name; `repository:tag` as it is.
    pub(crate) async fn name(&self, id: ImageId, reference: ImageRef) -> Result<()> {
        self.run(move |inner| inner.add_tag(id, &reference)).await
    }

    /// Fetches a file of the web.
    pub(crate) async fn fetch(&self, url: &str) -> Result<wharf_registry::Download> {
        let started = self.0.registry().download(url).await;
        started.map_err(|error| Error::Registry(error.to_string(), error.kind()))
    }

    /// `DELETE /images/{name}`
    pub async fn remove(&self, name: &str, options: RemoveImage) -> Result<Vec<api::DeleteItem>> {
        let name = name.to_owned();
        self.run(move |inner| inner.remove(&name, &options)).await
    }

    /// `POST /images/prune`
    pub async fn prune(&self, filters: Filters) -> Result<api::PruneReport> {
        self.run(move |inner| inner.prune(&filters)).await
    }

    /// `POST /images/load`: of these platforms only, of which there may be one
    pub async fn load(&self, tar: ByteStream, platforms: Vec<Platform>, progress: Progress) -> Result<()> {
        let platform = one_platform(platforms)?;
        let (reader, report) = (StreamReader::new(tar), load::Report::new(progress));
        self.run(move |inner| reader.exhausted_by(|reader| inner.load(reader, platform.as_ref(), &report)))
            .await
    }

    /// `GET /images/get`
    pub async fn save(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<ByteStream> {
        let platform = one_platform(platforms)?;
        let selected = self.run(move |inner| inner.select(&names, platform.as_ref())).await?;
        let (writer, stream) = StreamWriter::new();
        let inner = Arc::clone(&self.0);
        // Its end is the stream's.
        drop(tokio::task::spawn_blocking(move || inner.save(&selected, writer)));
        Ok(stream)
    }

    /// `POST /images/create?fromSrc=`
    pub async fn import(&self, source: ImportSource, options: ImportImage, progress: Progress) -> Result<()> {
        let options = import::check(options)?;
        let archive = match source {
            ImportSource::Stream(stream) => stream,
            ImportSource::Url(url) => self.0.download(&url, progress.clone()).await?,
        };
        let reader = StreamReader::new(archive);
        let id = self.run(move |inner| reader.exhausted_by(|reader| inner.import(reader, options))).await?;
        // A client that left does not hear of it; the image is there.
        let _ = progress.send(progress::Message::status("", id.to_string())).await;
        Ok(())
    }

    /// `POST /images/create?fromImage=`
    pub async fn pull(&self, transfer: Transfer, progress: Progress) -> Result<()> {
        pull::run(&self.0, transfer, progress).await
    }

    /// `POST /images/{name}/push`
    pub async fn push(&self, transfer: Transfer, progress: Progress) -> Result<()> {
        push::run(&self.0, transfer, progress).await
    }

    /// `GET /images/search`
    ///
    /// # Errors
    /// When the registry does not search, or not for this.
    pub async fn search(&self, wanted: SearchImages) -> Result<Vec<api::SearchResult>> {
        search::run(&self.0, wanted).await
    }

    /// `POST /auth`: whether a registry takes these credentials. Gives the identity token that it issues
    /// instead of the password, if it does.
    ///
    /// # Errors
    /// When it does not take them, or cannot be asked.
    pub async fn login(&self, auth: AuthConfig) -> Result<String> {
        let login = self.0.registry().login(&pull::credentials(Some(auth))).await;
        login.map_err(|error| Error::Registry(error.to_string(), error.kind()))
    }

    /// `GET /distribution/{name}/json`
    pub async fn distribution(&self, transfer: Transfer) -> Result<api::DistributionInspect> {
        pull::inspect(&self.0, transfer).await
    }

    /// The directory of the image store, as `docker info` shows it.
    pub fn root(&self) -> PathBuf {
        self.0.config.data_root.clone()
    }
}
