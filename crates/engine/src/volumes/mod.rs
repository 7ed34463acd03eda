//! Volumes: of the `local` driver, which are directories here, and of plugins, which say where they are (see `driver`).
//!
//! Files on disk: `<data-root>/volumes/<name>/_data/`, the volume; `<name>/opts.json`, its options in Docker's
//! form; `volumes/metadata.db`, names, labels and options (see `metadata`), held while this is open. A directory with `_data` or `opts.json` in it is a volume
//! even without an entry there (source: moby `daemon/volume/local`, `daemon/volume/service`).
//!
//! A volume is in use while a container's record names it or a container being made holds it.

mod create;
mod disk;
mod driver;
mod filling;
mod list;
mod local_mount;
mod metadata;
mod mount;
mod remove;
mod unfinished;

pub use remove::Force;

pub(crate) use create::{CreateVolume, VolumeUse};
pub(crate) use driver::LOCAL;
pub(crate) use filling::{Filling, Staging};
pub(crate) use mount::Mounted;

use crate::{
    Config, Error, Events, Result, blocking::blocking, containers::Index, events::EventKind, plugins::Plugins,
};
use driver::Told;
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
    plugins: Plugins,
    /// Volumes that are being changed.
    changing: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    table: Mutex<BTreeMap<String, Entry>>,
    metadata: Arc<Metadata>,
}

/// One volume.
#[derive(Debug, Clone, Default)]
struct Entry {
    driver: String,
    labels: Option<StringMap>,
    options: Option<StringMap>,
    created: Time,
    /// Containers that are being made with it.
    held: BTreeSet<ContainerId>,
    /// Containers that have it mounted, where its options or its driver need a mount of its own.
    mounted: BTreeSet<ContainerId>,
    /// Where its plugin has mounted it.
    mountpoint: String,
}

impl Entry {
    fn is_local(&self) -> bool {
        self.driver == LOCAL
    }

    /// A volume that a plugin has.
    fn of_plugin(driver: &str, labels: Option<StringMap>, options: Option<StringMap>) -> Self {
        Self { driver: driver.into(), labels, options, ..Self::default() }
    }
}

impl Volumes {
    pub(crate) async fn open(config: Arc<Config>, events: Events, containers: Index) -> Result<Self> {
        let (dir, owner) = (config.volumes_dir(), config.remap.as_ref().map(|remap| remap.root));
        let read = dir.clone();
        let opened = blocking(move || Ok((Metadata::open(&read)?, disk::read_all(&read)?))).await?;
        let ((metadata, mut noted), found) = opened;
        let mut table: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, found) in found {
            let noted = noted.remove(&name).unwrap_or_default();
            let options = found.options.or(noted.options);
            let (driver, created) = (LOCAL.to_owned(), found.created);
            table.insert(name, Entry { driver, labels: noted.labels, options, created, ..Entry::default() });
        }
        let of_plugins = noted.into_iter().filter(|(_, noted)| !matches!(noted.driver.as_str(), "" | LOCAL));
        table.extend(
            of_plugins
                .map(|(name, noted)| (name, Entry::of_plugin(&noted.driver, noted.labels, noted.options))),
        );
        let inner = Inner {
            dir,
            owner,
            creating: config.data_root.join("wharf/creating"),
            unfinished: Mutex::default(),
            events,
            containers,
            plugins: Plugins::new(&config.plugin_socket_dir),
            changing: Mutex::default(),
            table: Mutex::new(table),
            metadata: Arc::new(metadata),
        };
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

    /// One change of a volume at a time: it goes to the disk or to a plugin in between.
    async fn one_change(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
            changing.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(changing.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
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
    /// `get ...: no such volume`; what its plugin says.
    pub async fn inspect(&self, name: &str) -> Result<api::Volume> {
        let entry = self.table().get(name).cloned();
        match entry {
            Some(entry) if entry.is_local() => Ok(self.show(name, &entry)),
            Some(entry) => {
                let driver = self.driver(&entry.driver).await?;
                let driver = driver.ok_or_else(|| Error::NoSuchVolume(name.into()))?;
                let of_volume = |error: Error| error.context(format!("get {name}"));
                let mut told = driver.get(name).await.map_err(of_volume)?;
                if told.mountpoint.is_empty() {
                    told.mountpoint = driver.path(name).await.unwrap_or_default();
                }
                Ok(self.show_told(name, &entry, told, driver.scope().await))
            }
            None => self.probe(name).await,
        }
    }

    /// Asks every plugin for a volume that is known to none here.
    async fn probe(&self, name: &str) -> Result<api::Volume> {
        for driver in self.drivers().await {
            if let Ok(told) = driver.get(name).await {
                let entry = Entry::of_plugin(driver.name(), None, None);
                self.table().entry(name.to_owned()).or_insert_with(|| entry.clone());
                self.save().await?;
                return Ok(self.show_told(name, &entry, told, driver.scope().await));
            }
        }
        Err(Error::NoSuchVolume(name.into()))
    }

    fn show(&self, name: &str, entry: &Entry) -> api::Volume {
        let mountpoint = match entry.is_local() {
            true => self.data_dir(name).to_string_lossy().into_owned(),
            false => entry.mountpoint.clone(),
        };
        api::Volume {
            // Docker tells no fractions of seconds here.
            created_at: Time::from_unix(entry.created.unix(), 0).unwrap_or(entry.created),
            driver: entry.driver.clone(),
            labels: entry.labels.clone(),
            mountpoint,
            name: name.into(),
            options: entry.options.clone(),
            scope: "local".into(),
            ..api::Volume::default()
        }
    }

    /// A plugin's volume, with what the plugin says of it.
    fn show_told(&self, name: &str, entry: &Entry, told: Told, scope: String) -> api::Volume {
        let created_at = told.created_at.unwrap_or(Time::ZERO);
        let mut shown = self.show(name, entry);
        if !told.mountpoint.is_empty() {
            shown.mountpoint = told.mountpoint;
        }
        let status = told.status.unwrap_or_default();
        api::Volume { created_at, scope, status, ..shown }
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
        let (metadata, volumes) = (Arc::clone(&self.0.metadata), self.clone());
        // Looked at under the file's own lock: an older state is never written over a newer one.
        blocking(move || metadata.save(|| volumes.noted())).await
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
            let Entry { driver, labels, options, .. } = entry.clone();
            (name.clone(), metadata::Noted { driver, labels, options })
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
