//! Volumes of the `local` driver.
//!
//! Files on disk: `<data-root>/volumes/<name>/_data/`, the volume; `<name>/opts.json`, its options in Docker's
//! form; `volumes/metadata.db`, names, labels and options (see `metadata`), held while this is open. A directory with `_data` or `opts.json` in it is a volume
//! even without an entry there (source: moby `daemon/volume/local`, `daemon/volume/service`).
//!
//! A volume is in use while a container's record names it or a container being made holds it.

mod create;
mod disk;
mod list;
mod metadata;
mod mount;
mod remove;
mod unfinished;

pub use remove::Force;

pub(crate) use create::{CreateVolume, VolumeUse};

use crate::{Config, Error, Events, Result, blocking::blocking, containers::Index, events::EventKind};
use metadata::Metadata;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wharf_api::{StringMap, time::Time, volume as api};
use wharf_spec::ContainerId;

/// The label of a volume that was made without a name.
pub(crate) const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// The handle of volumes: cheap to clone.
#[derive(Clone)]
pub struct Volumes(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    /// Whom new volumes belong to: the containers' root.
    owner: Option<(u32, u32)>,
    /// Notes of creates that are under way, and whose there are (see `unfinished`).
    creating: PathBuf,
    unfinished: Mutex<BTreeSet<ContainerId>>,
    events: Events,
    containers: Index,
    /// One change at a time: making and removing go to the disk in between.
    changing: tokio::sync::Mutex<()>,
    table: Mutex<BTreeMap<String, Entry>>,
    metadata: Arc<Metadata>,
}

/// One volume.
#[derive(Debug, Clone)]
struct Entry {
    labels: Option<StringMap>,
    options: Option<StringMap>,
    created: Time,
    /// Containers that are being made with it.
    held: BTreeSet<ContainerId>,
    /// Containers that have it mounted, where its options need a mount of its own.
    mounted: BTreeSet<ContainerId>,
}

impl Volumes {
    pub(crate) async fn open(config: Arc<Config>, events: Events, containers: Index) -> Result<Self> {
        let (dir, owner) = (config.volumes_dir(), config.remap.as_ref().map(|remap| remap.root));
        let read = dir.clone();
        let opened = blocking(move || Ok((Metadata::open(&read)?, disk::read_all(&read)?))).await?;
        let ((metadata, mut noted), found) = opened;
        let entry = |(name, found): (String, disk::Found)| {
            let noted = noted.remove(&name).unwrap_or_default();
            let entry = Entry {
                labels: noted.labels,
                options: found.options.or(noted.options),
                created: found.created,
                held: BTreeSet::new(),
                mounted: BTreeSet::new(),
            };
            (name, entry)
        };
        let table = Mutex::new(found.into_iter().map(entry).collect());
        let changing = tokio::sync::Mutex::default();
        let metadata = Arc::new(metadata);
        let (creating, unfinished) = (config.data_root.join("wharf/creating"), Mutex::default());
        let inner = Inner { dir, owner, creating, unfinished, events, containers, changing, table, metadata };
        let volumes = Self(Arc::new(inner));
        volumes.save().await?;
        Ok(volumes)
    }

    /// Another daemon may have the volumes now.
    pub async fn shutdown(&self) {
        let metadata = Arc::clone(&self.0.metadata);
        let closed = blocking(move || {
            metadata.close();
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "volumes stay locked");
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfinished(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.0.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        self.0.dir.join(name).join("_data")
    }

    /// `GET /volumes/{name}`
    ///
    /// # Errors
    /// `get ...: no such volume`.
    pub async fn inspect(&self, name: &str) -> Result<api::Volume> {
        let table = self.table();
        let entry = table.get(name).ok_or_else(|| Error::NoSuchVolume(name.into()))?;
        Ok(self.show(name, entry))
    }

    fn show(&self, name: &str, entry: &Entry) -> api::Volume {
        api::Volume {
            // Docker tells no fractions of seconds here.
            created_at: Time::from_unix(entry.created.unix(), 0).unwrap_or(entry.created),
            driver: "local".into(),
            labels: entry.labels.clone(),
            mountpoint: self.data_dir(name).to_string_lossy().into_owned(),
            name: name.into(),
            options: entry.options.clone(),
            scope: "local".into(),
            ..api::Volume::default()
        }
    }

    /// Containers whose records name the volume.
    fn users(&self, name: &str) -> Vec<ContainerId> {
        let all = self.0.containers.all();
        let mut users: Vec<_> = all.iter().filter(|c| c.uses_volume(name)).map(|c| c.id.clone()).collect();
        if let Some(entry) = self.table().get(name) {
            users.extend(entry.held.iter().filter(|id| !all.iter().any(|c| c.id == **id)).cloned());
        }
        users
    }

    /// The container has its record now, or is not going to have one.
    pub(crate) fn release(&self, container: &ContainerId) {
        for entry in self.table().values_mut() {
            entry.held.remove(container);
        }
    }

    /// Writes what is noted of volumes as it is now, and does not wait for the disk.
    async fn note(&self) -> Result<()> {
        let (metadata, noted) = (Arc::clone(&self.0.metadata), self.noted());
        blocking(move || metadata.save(&noted)).await
    }

    /// As [`Self::note`], and waits for the disk.
    async fn save(&self) -> Result<()> {
        self.note().await?;
        self.sync().await
    }

    async fn sync(&self) -> Result<()> {
        let metadata = Arc::clone(&self.0.metadata);
        blocking(move || metadata.sync()).await
    }

    async fn sync_or_warn(self) {
        if let Err(error) = self.sync().await {
            tracing::warn!(%error, "labels of volumes not on the disk");
        }
    }

    fn noted(&self) -> BTreeMap<String, metadata::Noted> {
        let noted = |(name, entry): (&String, &Entry)| {
            let noted = metadata::Noted { labels: entry.labels.clone(), options: entry.options.clone() };
            (name.clone(), noted)
        };
        self.table().iter().map(noted).collect()
    }

    fn emit(&self, action: &str, name: &str, attributes: StringMap) {
        self.0.events.emit(EventKind::Volume, action, name, attributes);
    }
}

/// Bytes below a directory, each file once. What goes away meanwhile counts nothing. Blocks.
pub(crate) fn directory_size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = BTreeSet::new();
    let mut todo = vec![dir.to_owned()];
    let mut size = 0;
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                todo.push(entry.path());
            } else if seen.insert((metadata.dev(), metadata.ino())) {
                size += metadata.len();
            }
        }
    }
    size
}
