//! Images, layers and containers for a build's steps.

use super::{Inner, caches, failed, remote};
use crate::{
    Error, Result,
    containers::{AttachOptions, CreateOptions, RemoveOptions, WaitCondition},
    images::{CommitImage, Image, Progress, Transfer},
    random,
};
use futures_util::StreamExt;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::Handle,
    sync::watch,
};
use wharf_api::{
    auth::AuthConfig,
    container::{Config, CreateRequest, HostConfig},
    gojson,
    mount::{Mount, TmpfsOptions},
};
use wharf_build::{Base, Bind, Checkout, Commit, Download, Error as BuildError, Output, Run, Worker};
use wharf_spec::{ContainerId, ErrorKind, ImageId, ImageRef, Platform, RunConfig};
use wharf_sys::{fault, path::Root};

/// Of a frame of a container's output: the stream, three zeros, the length.
const HEADER: usize = 8;
const STDERR: u8 = 2;

pub(super) struct EngineWorker {
    inner: Arc<Inner>,
    host: HostConfig,
    registries: BTreeMap<String, AuthConfig>,
    secrets: BTreeMap<String, Vec<u8>>,
    cache_from: Vec<ImageId>,
    handle: Handle,
    progress: Progress,
    /// Whether the build has failed.
    abandoned: watch::Sender<bool>,
    scratch: PathBuf,
    volatile: PathBuf,
}

impl EngineWorker {
    pub(super) fn new(
        inner: &Arc<Inner>,
        host: HostConfig,
        registries: BTreeMap<String, AuthConfig>,
        secrets: BTreeMap<String, Vec<u8>>,
        handle: Handle,
        progress: Progress,
    ) -> Self {
        let (scratch, volatile) = (inner.scratch(), inner.volatile());
        let inner = Arc::clone(inner);
        Self {
            inner,
            host,
            registries,
            secrets,
            cache_from: Vec::new(),
            handle,
            progress,
            abandoned: watch::Sender::new(false),
            scratch,
            volatile,
        }
    }

    /// Images that are not here are no cache.
    pub(super) fn with_cache_from(mut self, names: &[String]) -> Result<Self> {
        for name in names {
            let found = self.handle.block_on(self.inner.images.resolve(name, None));
            self.cache_from.extend(found.ok().map(|image| image.id));
        }
        Ok(self)
    }

    async fn pull(&self, name: &str, platform: Option<&Platform>) -> Result<()> {
        let reference: ImageRef = name
            .parse()
            .map_err(|error: wharf_spec::ParseReferenceError| Error::Invalid(error.to_string()))?;
        let domain = reference.domain();
        let key = if domain == "docker.io" { "https://index.docker.io/v1/" } else { domain };
        let transfer = Transfer {
            reference: reference.clone().or_latest().to_string(),
            platform: platform.cloned(),
            all_tags: false,
            auth: self.registries.get(key).cloned(),
            meta_headers: BTreeMap::new(),
        };
        tokio::select! {
            pulled = self.inner.images.pull(transfer, self.progress.clone()) => pulled,
            () = self.progress.closed() => Err(Error::Build(BuildError::Cancelled)),
        }
    }

    /// A layer for a while, on an image: what is done in it may become a layer of an image.
    fn in_layer<T>(
        &self,
        image: Option<&ImageId>,
        work: impl FnOnce(&ContainerId, &Path) -> wharf_build::Result<T>,
    ) -> wharf_build::Result<T> {
        let layers = self.inner.images.layers();
        let id = ContainerId::from_random(random::bytes32());
        layers.create_bare(&id, image).map_err(worker_error)?;
        let done = layers.mount(&id).map_err(worker_error).and_then(|path| {
            let done = work(&id, &path);
            let unmounted = layers.unmount(&id).map_err(worker_error);
            done.and_then(|value| unmounted.map(|()| value))
        });
        if let Err(error) = layers.remove(&id) {
            tracing::warn!(layer = %id, %error, "a layer of a build stays until the next start");
        }
        done
    }

    fn commit(&self, commit: &Commit<'_>, layer_of: Option<ContainerId>) -> wharf_build::Result<ImageId> {
        let epoch = commit.epoch.map(jiff::Timestamp::from_second).transpose();
        let epoch =
            epoch.map_err(|error| BuildError::Invalid(format!("invalid SOURCE_DATE_EPOCH: {error}")))?;
        if let (Some(id), Some(seconds)) = (&layer_of, commit.epoch) {
            let upper = self.inner.images.layers().driver_data(id).remove("UpperDir").unwrap_or_default();
            wharf_build::no_later_than(Path::new(&upper), seconds)?;
        }
        let image = CommitImage {
            layer_of,
            container: commit.container.to_owned(),
            parent: commit.parent,
            platform: commit.platform.clone(),
            author: commit.author.to_owned(),
            comment: String::new(),
            created: epoch,
            reference: None,
            config: commit.config.clone(),
            container_config: commit.container_config.clone(),
        };
        let image = self.handle.block_on(self.inner.images.commit(image)).map_err(worker_error)?;
        fault::death("build.committed");
        Ok(image)
    }

    fn mark(&self, container: &str) -> PathBuf {
        self.inner.running().join(container)
    }

    async fn create_container(&self, run: &Run<'_>) -> Result<(String, Vec<String>)> {
        let mut host = self.host.clone();
        if !run.network.is_empty() && run.network != "default" {
            host.network_mode = run.network.into();
        }
        host.log_config.driver = "none".into();
        host.mounts = run.binds.iter().map(mount).collect();
        let image = run.image.map(|id| id.to_string()).unwrap_or_default();
        let config = Config { image, ..api_config(run.config)? };
        let request = CreateRequest { config, host_config: Some(host), networking_config: None };
        let id = ContainerId::from_random(random::bytes32());
        // Before it is there, so that no crash leaves it unknown.
        let mark = self.mark(id.as_str());
        std::fs::write(&mark, "").map_err(failed("write", &mark))?;
        let options = CreateOptions { id: Some(id), request, ..CreateOptions::default() };
        match Box::pin(self.inner.containers.create(options)).await {
            Ok(created) => {
                fault::death("build.created");
                Ok((created.id, created.warnings))
            }
            Err(error) => {
                std::fs::remove_file(&mark).map_err(failed("remove", &mark))?;
                Err(error)
            }
        }
    }

    async fn run_container(&self, id: &str, out: &mut dyn Output) -> wharf_build::Result<i64> {
        let containers = &self.inner.containers;
        let options = AttachOptions { stream: true, stdout: true, stderr: true, ..AttachOptions::default() };
        let attached = containers.attach(id, options).await.map_err(worker_error)?;
        containers.start(id).await.map_err(worker_error)?;
        fault::death("build.started");
        if let Some(stream) = attached.stream {
            pump(stream, out).await?;
        }
        let wait = containers.wait(id, WaitCondition::NotRunning).map_err(worker_error)?;
        let waited = wait.done().await.map_err(worker_error)?;
        Ok(waited.code.into())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let options = RemoveOptions { force: true, volumes: true, link: false };
        match self.inner.containers.remove(id, options).await {
            Ok(()) | Err(Error::NoSuchContainer(_)) => {}
            Err(error) => return Err(error),
        }
        let mark = self.mark(id);
        std::fs::remove_file(&mark).map_err(failed("remove", &mark))
    }

    async fn download_to(&self, url: &str, to: &Path) -> Result<Download> {
        let download = self.inner.images.fetch(url).await?;
        let modified = jiff::fmt::rfc2822::parse(&download.modified).ok();
        let told =
            Download { name: download.name.clone(), modified: modified.map(|at| at.timestamp().as_second()) };
        let mut file = tokio::fs::File::create(to).await.map_err(failed("create", to))?;
        let mut pieces = std::pin::pin!(download.into_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(failed("read", Path::new(url)))?;
            file.write_all(&piece).await.map_err(failed("write", to))?;
        }
        file.flush().await.map_err(failed("write", to))?;
        Ok(told)
    }
}

impl Worker for EngineWorker {
    fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        _out: &mut dyn Output,
    ) -> wharf_build::Result<Base> {
        let found = self.handle.block_on(async {
            let is_id = name.starts_with("sha256:");
            if !pull || is_id {
                match self.inner.images.resolve(name, platform).await {
                    Err(error) if error.kind() == ErrorKind::NotFound && !is_id => {}
                    found => return found,
                }
            }
            self.pull(name, platform).await?;
            self.inner.images.resolve(name, platform).await
        });
        found.map(base).map_err(worker_error)
    }

    fn cached(&self, parent: Option<ImageId>, made_by: &RunConfig) -> wharf_build::Result<Option<ImageId>> {
        let cached = self.inner.images.cached(parent, made_by.clone(), self.cache_from.clone());
        self.handle.block_on(cached).map_err(worker_error)
    }

    fn earlier(&self, parent: Option<ImageId>) -> wharf_build::Result<Vec<RunConfig>> {
        self.handle.block_on(self.inner.images.earlier_steps(parent)).map_err(worker_error)
    }

    fn abandon(&self) {
        self.abandoned.send_replace(true);
    }

    fn commit_config(&self, commit: &Commit<'_>) -> wharf_build::Result<ImageId> {
        self.commit(commit, None)
    }

    fn commit_files(
        &self,
        commit: &Commit<'_>,
        change: &mut dyn FnMut(&Root) -> wharf_build::Result<()>,
    ) -> wharf_build::Result<ImageId> {
        self.in_layer(commit.parent.as_ref(), |id, path| {
            change(&Root::open(path)?)?;
            fault::death("build.changed");
            self.commit(commit, Some(id.clone()))
        })
    }

    fn container_id(&self) -> String {
        ContainerId::from_random(random::bytes32()).to_string()
    }

    fn create(&self, run: &Run<'_>) -> wharf_build::Result<(String, Vec<String>)> {
        self.handle.block_on(self.create_container(run)).map_err(worker_error)
    }

    fn run(&self, container: &str, out: &mut dyn Output) -> wharf_build::Result<i64> {
        let mut abandoned = self.abandoned.subscribe();
        let ran = self.handle.block_on(async {
            tokio::select! {
                ran = self.run_container(container, out) => ran,
                () = self.progress.closed() => Err(BuildError::Cancelled),
                _ = abandoned.wait_for(|is_so| *is_so) => Err(BuildError::Cancelled),
            }
        });
        if matches!(ran, Err(BuildError::Cancelled)) {
            self.remove(container)?;
        }
        ran
    }

    fn commit_container(
        &self,
        container: &str,
        mount_points: &[String],
        commit: &Commit<'_>,
    ) -> wharf_build::Result<ImageId> {
        let id = container.parse().map_err(|_| BuildError::Refused(format!("invalid id {container}")))?;
        self.inner.images.layers().forget_mount_points(&id, mount_points).map_err(worker_error)?;
        self.commit(commit, Some(id))
    }

    fn remove(&self, container: &str) -> wharf_build::Result<()> {
        self.handle.block_on(self.remove_container(container)).map_err(worker_error)
    }

    fn release(&self, container: &str) {
        // It is the user's to remove now; at the worst the next daemon does it.
        let _ = std::fs::remove_file(self.mark(container));
    }

    fn with_image(
        &self,
        image: ImageId,
        work: &mut dyn FnMut(&Path) -> wharf_build::Result<()>,
    ) -> wharf_build::Result<()> {
        self.in_layer(Some(&image), |_, path| work(path))
    }

    fn download(&self, url: &str, to: &Path) -> wharf_build::Result<Download> {
        self.handle.block_on(self.download_to(url, to)).map_err(worker_error)
    }

    fn is_repository(&self, address: &str) -> bool {
        remote::is_git(address)
    }

    fn checkout(&self, address: &str, to: &Path) -> wharf_build::Result<Checkout> {
        remote::checkout(address, to).map_err(worker_error)
    }

    fn cache(&self, id: &str) -> wharf_build::Result<PathBuf> {
        caches::directory(&self.inner.caches(), id).map_err(worker_error)
    }

    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        self.secrets.get(id).cloned()
    }

    fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn volatile(&self) -> &Path {
        &self.volatile
    }
}

fn base(image: Image) -> Base {
    let platform = image.config.platform();
    Base { id: Some(image.id), config: image.config.config.clone().unwrap_or_default(), platform }
}

/// Output as it comes, until there is no more.
async fn pump(mut stream: UnixStream, out: &mut dyn Output) -> wharf_build::Result<()> {
    let io = |error| worker_error(Error::Os { step: "read output", source: error });
    let mut header = [0; HEADER];
    loop {
        match stream.read_exact(&mut header).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other.map_err(io)?,
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let mut content = vec![0; length as usize];
        stream.read_exact(&mut content).await.map_err(io)?;
        let text = String::from_utf8_lossy(&content).into_owned();
        // Whoever reads slowly holds only this build up.
        tokio::task::block_in_place(|| {
            if header[0] == STDERR { out.error_text(&text) } else { out.text(&text) }
        })?;
    }
}

fn mount(bind: &Bind) -> Mount {
    match bind {
        Bind::Path { source, target, read_only } => Mount {
            kind: "bind".into(),
            source: source.to_string_lossy().into_owned(),
            target: target.clone(),
            read_only: *read_only,
            ..Mount::default()
        },
        Bind::Tmpfs { target, size } => Mount {
            kind: "tmpfs".into(),
            target: target.clone(),
            tmpfs_options: Some(TmpfsOptions {
                size_bytes: (*size).try_into().unwrap_or(0),
                ..TmpfsOptions::default()
            }),
            ..Mount::default()
        },
    }
}

/// The config as containers have it: both types have the same JSON.
fn api_config(config: &RunConfig) -> Result<Config> {
    gojson::from_slice(&wharf_spec::to_go_json(config)).map_err(|error| Error::Refused(error.to_string()))
}

fn worker_error(error: Error) -> BuildError {
    match error {
        Error::Build(error) => error,
        error => BuildError::Worker { kind: error.kind(), text: error.to_string() },
    }
}
