//! Builds of images: what `wharf_build` needs, made of containers, images and layers (source: moby
//! `daemon/builder/{backend,dockerfile}`).
//!
//! Files on disk, below `<data-root>/builder/`: `tmp/`, contexts and downloads of builds under way; `running/<id>`, one
//! for each container that a build runs; `caches/<digest>/data`, the cache mounts; `contexts/<digest>`, contexts of earlier
//! builds, and `contexts.boot`, the boot that they are of. Below `<exec-root>/builder/`, in
//! memory: secrets. What a killed daemon leaves of a build is removed when the next one starts.

mod caches;
mod contexts;
mod files;
mod remote;
mod worker;

use crate::{
    Config, Containers, Error, Images, Result,
    blocking::blocking,
    containers::RemoveOptions,
    images::{ByteStream, Progress, StreamReader},
};
use caches::Prune;
pub use caches::{PruneCaches, Pruned};
pub use contexts::{ContextSource, UpdateContext};
use remote::Source;
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
};
use wharf_api::{auth::AuthConfig, build_cache::CacheRecord, container::HostConfig, progress::Message};
use wharf_build::{Context, Contexts, Output};
pub use wharf_build::{Request, Stages};
use wharf_spec::{ImageId, ImageRef};
use worker::EngineWorker;

/// No Dockerfile is longer, in bytes.
const MAX_DOCKERFILE: u64 = 64 << 20;

/// The handle of builds: cheap to clone.
#[derive(Clone)]
pub struct Builds(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    containers: Containers,
    images: Images,
    /// Builds under way that have a name.
    named: Mutex<HashMap<String, Arc<Notify>>>,
}

/// For [`Builds::build`].
#[derive(Default)]
pub struct BuildImage {
    /// What is built, and how.
    pub request: Request,
    /// What the client calls the build, to cancel it; or empty.
    pub id: String,
    /// Name of the file in the context, or empty.
    pub dockerfile: String,
    /// Where the context is, or empty: the client sends it.
    pub remote: String,
    /// What to call the image.
    pub tags: Vec<String>,
    /// Only the image's id is told.
    pub quiet: bool,
    /// How commands run.
    pub host: HostConfig,
    /// Who asks which registry.
    pub registries: BTreeMap<String, AuthConfig>,
    /// Images whose steps may be taken.
    pub cache_from: Vec<String>,
    /// What commands may see.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Contexts by their names. Where one is called by the empty name, the client sends the Dockerfile alone.
    pub contexts: BTreeMap<String, ContextSource>,
}

impl Builds {
    /// Removes what builds of an earlier daemon left.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub(crate) async fn open(config: Arc<Config>, containers: Containers, images: Images) -> Result<Self> {
        let builds = Self(Arc::new(Inner { config, containers, images, named: Mutex::default() }));
        builds.0.clean().await?;
        Ok(builds)
    }

    /// Builds an image; tells how far it is. Given up when nobody listens any more.
    ///
    /// # Errors
    /// In Docker's words.
    pub async fn build(&self, options: BuildImage, context: ByteStream, progress: Progress) -> Result<()> {
        if options.id.is_empty() {
            return self.run(options, context, progress).await;
        }
        // Who cancels takes the listener away.
        let (sender, mut messages) = mpsc::channel(1);
        let (id, cancelled) = (options.id.clone(), Arc::new(Notify::new()));
        self.0.named().insert(id.clone(), Arc::clone(&cancelled));
        let listening = async {
            tokio::select! {
                () = async {
                    while let Some(message) = messages.recv().await {
                        if progress.send(message).await.is_err() {
                            break;
                        }
                    }
                } => {}
                () = cancelled.notified() => {}
            }
            drop(messages);
        };
        let (built, ()) = tokio::join!(self.run(options, context, sender), listening);
        self.0.named().remove(&id);
        built
    }

    /// Ends a build by its name; there need be none.
    pub fn cancel(&self, id: &str) {
        if let Some(build) = self.0.named().get(id) {
            build.notify_one();
        }
    }

    /// Removes cache mounts and contexts that no build uses now.
    ///
    /// # Errors
    /// For filters that there are not, and when they cannot be removed.
    pub async fn prune(&self, wanted: PruneCaches) -> Result<Pruned> {
        let filters = &wanted.filters;
        filters.validate(&["until", "id", "type"])?;
        let until = crate::containers::prune_until(filters)?.map(|until| SystemTime::from(until.0));
        let all = |key: &str| filters.get(key).map(str::to_owned).collect();
        let prune = Prune { until, ids: all("id"), kinds: all("type"), keep: wanted.keep };
        let inner = Arc::clone(&self.0);
        blocking(move || inner.prune(&prune)).await
    }

    /// What is kept for later builds besides images.
    ///
    /// # Errors
    /// When the directories cannot be read.
    pub async fn cache_records(&self) -> Result<Vec<CacheRecord>> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.cache_records()).await
    }

    async fn run(&self, mut options: BuildImage, context: ByteStream, progress: Progress) -> Result<()> {
        let tags = names(&options.tags)?;
        let inner = Arc::clone(&self.0);
        let reader = StreamReader::new(context);
        let source = remote::source(&inner, &options.remote, &progress).await?;
        let mut fetched = BTreeMap::new();
        for (name, context) in &options.contexts {
            if let ContextSource::Address(address) = context
                && !address.starts_with("docker-image://")
            {
                let Source::Context(context) = remote::source(&inner, address, &progress).await? else {
                    return Err(Error::Invalid(format!("build context {name:?} is a file alone: {address}")));
                };
                fetched.insert(name.clone(), context);
            }
        }
        let out = Told::new(progress.clone(), options.quiet);
        options.request.host_network = options.host.network_mode.is_host();
        let quiet = options.quiet;
        let handle = Handle::current();
        let images = self.0.images.clone();
        let (id, mut out) = blocking(move || {
            let mut out = out;
            let built = reader
                .exhausted_by(|reader| inner.build(options, (source, fetched), reader, handle, &mut out));
            match built {
                Ok(id) => Ok((id, out)),
                Err(error) => {
                    out.reveal();
                    Err(error)
                }
            }
        })
        .await?;
        if quiet {
            let _ = progress.send(Message::stream(format!("{id}\n"))).await;
        }
        out.say(format!("Successfully built {}\n", short(&id))).await;
        for tag in tags {
            let name = tag.familiar_string();
            images.name(id, tag).await?;
            out.say(format!("Successfully tagged {name}\n")).await;
        }
        Ok(())
    }
}

impl Inner {
    /// `<data-root>/builder`
    fn home(&self) -> PathBuf {
        self.config.data_root.join("builder")
    }

    fn scratch(&self) -> PathBuf {
        self.home().join("tmp")
    }

    fn caches(&self) -> PathBuf {
        self.home().join("caches")
    }

    fn named(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> PathBuf {
        self.home().join("running")
    }

    fn volatile(&self) -> PathBuf {
        self.config.exec_root.join("builder")
    }

    async fn clean(self: &Arc<Self>) -> Result<()> {
        let (fresh, running) = ([self.scratch(), self.volatile()], self.running());
        let inner = Arc::clone(self);
        let left = blocking(move || {
            for directory in &fresh {
                empty(directory)?;
            }
            make(&running)?;
            inner.forget_contexts_of_earlier_boots()?;
            let names = std::fs::read_dir(&running).map_err(failed("read", &running))?;
            Ok(names
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>())
        })
        .await?;
        for id in left {
            let options = RemoveOptions { force: true, volumes: true, link: false };
            match self.containers.remove(&id, options).await {
                Ok(()) => tracing::info!(container = id, "removed a container of a build that was cut off"),
                Err(Error::NoSuchContainer(_)) => {}
                Err(error) => {
                    tracing::warn!(container = id, %error, "a container of a build that was cut off stays");
                    continue;
                }
            }
            let mark = self.running().join(&id);
            blocking(move || std::fs::remove_file(&mark).map_err(failed("remove", &mark))).await?;
        }
        Ok(())
    }

    fn build(
        self: &Arc<Self>,
        options: BuildImage,
        (source, fetched): (Source, BTreeMap<String, Context>),
        reader: &mut StreamReader,
        handle: Handle,
        out: &mut Told,
    ) -> Result<ImageId> {
        let mut contexts = self.open_contexts(&options.contexts, fetched)?;
        let text = self.dockerfile(&options, source, reader, &mut contexts)?;
        let file = wharf_build::parse(&text, &options.dockerfile).map_err(Error::Build)?;
        let worker =
            EngineWorker::new(self, options.host, options.registries, options.secrets, handle, out.sender());
        let worker = worker.with_cache_from(&options.cache_from)?;
        wharf_build::build(&worker, &options.request, file, &contexts, out).map_err(Error::Build)
    }

    /// The file's text, and the context that it comes with.
    fn dockerfile(
        &self,
        options: &BuildImage,
        source: Source,
        reader: &mut StreamReader,
        contexts: &mut Contexts,
    ) -> Result<String> {
        let context = match source {
            Source::Client if contexts.main.is_some() => return read_dockerfile(reader),
            Source::Dockerfile(text) => return Ok(text),
            Source::Client => Context::unpack(reader, &self.scratch()).map_err(Error::Build)?,
            Source::Context(context) => context,
        };
        let text = context.dockerfile(&options.dockerfile).map_err(Error::Build)?;
        contexts.main = Some(context);
        Ok(text)
    }
}

/// A file that is sent without its context.
fn read_dockerfile(reader: &mut StreamReader) -> Result<String> {
    let mut text = Vec::new();
    let read = reader.take(MAX_DOCKERFILE).read_to_end(&mut text);
    read.map_err(|source| Error::Os { step: "read Dockerfile", source })?;
    if text.is_empty() {
        return Err(Error::Invalid("the Dockerfile (Dockerfile) cannot be empty".into()));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn empty(directory: &std::path::Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", directory)(error));
        }
        _ => {}
    }
    make(directory)
}

fn make(directory: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(failed("mkdir", directory))
}

fn failed(step: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { step, path, source }
}

/// Names without their doubles (source: moby `daemon/builder/backend/tag.go`, sanitizeRepoAndTags).
fn names(given: &[String]) -> Result<Vec<ImageRef>> {
    let mut names: Vec<ImageRef> = Vec::new();
    for text in given.iter().filter(|text| !text.is_empty()) {
        let name: ImageRef = text
            .parse()
            .map_err(|error: wharf_spec::ParseReferenceError| Error::Invalid(error.to_string()))?;
        if name.digest().is_some() {
            return Err(Error::Invalid("build tag cannot contain a digest".into()));
        }
        let name = name.or_latest();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn short(id: &ImageId) -> String {
    id.hex()[..12].to_owned()
}

/// What a client is told, line by line.
#[derive(Clone)]
struct Told {
    progress: Progress,
    /// A quiet build keeps all back, for the case that it fails.
    kept: Option<Arc<Mutex<Vec<Message>>>>,
    /// The stage that is told of, where several are built at once.
    stage: String,
}

impl Told {
    fn new(progress: Progress, quiet: bool) -> Self {
        Self { progress, kept: quiet.then(Arc::default), stage: String::new() }
    }

    fn sender(&self) -> Progress {
        self.progress.clone()
    }

    fn send(&mut self, message: Message) -> wharf_build::Result<()> {
        let message = Message { id: self.stage.clone(), ..message };
        match &self.kept {
            Some(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).push(message),
            None => self.progress.blocking_send(message).map_err(|_| wharf_build::Error::Cancelled)?,
        }
        Ok(())
    }

    async fn say(&mut self, text: String) {
        if self.kept.is_none() {
            // The image is there, whoever hears of it.
            let _ = self.progress.send(Message::stream(text)).await;
        }
    }

    fn reveal(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        for message in std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = self.progress.blocking_send(message);
        }
    }
}

impl Output for Told {
    fn of_stage(&self, name: &str) -> Box<dyn Output> {
        Box::new(Self { stage: name.to_owned(), ..self.clone() })
    }

    fn text(&mut self, text: &str) -> wharf_build::Result<()> {
        self.send(Message::stream(text))
    }

    fn error_text(&mut self, text: &str) -> wharf_build::Result<()> {
        // In red, as Docker sends it.
        self.send(Message::stream(format!("\u{1b}[91m{text}\u{1b}[0m")))
    }

    fn image(&mut self, id: &ImageId) -> wharf_build::Result<()> {
        self.send(Message::aux(serde_json::json!({ "ID": id.to_string() })))
    }
}
