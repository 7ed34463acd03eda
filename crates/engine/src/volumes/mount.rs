//! Mounting: a volume with options (`type=tmpfs`, `type=nfs`, `o=bind`) is a mount of its own on its `_data`, a
//! plugin's is where the plugin mounts it. Both are there while a container with them runs.

use super::{Entry, Staging, Volumes, local_mount::LocalMount};
use crate::{Error, Result, blocking::blocking, containers::record::MountPoint};
use std::path::{Path, PathBuf};
use wharf_spec::ContainerId;

/// A volume that is there.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    /// How it is filled.
    pub(crate) staging: Staging,
}

impl Volumes {
    /// Makes sure that a volume's data is there for a container, until [`Self::unmount`].
    ///
    /// # Errors
    /// `error while mounting volume '...': ...`; when the volume is gone.
    pub(crate) async fn mount(&self, name: &str, container: &ContainerId) -> Result<Mounted> {
        let _one_change = self.one_change(name).await;
        let entry = self.table().get(name).cloned().ok_or_else(|| Error::NoSuchVolume(name.into()))?;
        let path = match (entry.is_local(), LocalMount::of(entry.options.as_ref())) {
            (true, None) => {
                return Ok(Mounted { path: self.data_dir(name), staging: Staging::Beside });
            }
            (true, Some(mount)) => self.mount_local(name, &entry, mount).await,
            (false, _) => self.mount_by(name, &entry, container).await,
        };
        let path = path.map_err(|error| {
            let shown = self.show(name, &entry).mountpoint;
            error.context(format!("error while mounting volume '{shown}'"))
        })?;
        if let Some(entry) = self.table().get_mut(name) {
            entry.mounted.insert(container.clone());
            if !entry.is_local() {
                entry.mountpoint = path.to_string_lossy().into_owned();
            }
        }
        Ok(Mounted { path, staging: Staging::Inside })
    }

    async fn mount_local(&self, name: &str, entry: &Entry, mount: LocalMount) -> Result<PathBuf> {
        let (dir, first) = (self.data_dir(name), entry.mounted.is_empty());
        blocking(move || {
            // An earlier daemon may have mounted it for a container that runs on.
            if first && !is_mounted(&dir)? {
                mount.mount(&dir)?;
            }
            Ok(dir)
        })
        .await
    }

    async fn mount_by(&self, name: &str, entry: &Entry, container: &ContainerId) -> Result<PathBuf> {
        let driver = self.driver(&entry.driver).await?;
        let driver = driver.ok_or_else(|| Error::NoSuchVolume(name.into()))?;
        let path = driver.mount(name, container.as_str()).await?;
        match path.starts_with('/') {
            true => Ok(path.into()),
            false => Err(Error::Refused(format!("driver {:?} told no place: {path:?}", driver.name()))),
        }
    }

    /// A container that an earlier daemon started has it mounted.
    pub(crate) async fn restore_mount(&self, name: &str, container: &ContainerId) -> Result<()> {
        match self.remember_mount(name, container) {
            true => Ok(()),
            false => self.mount(name, container).await.map(drop),
        }
    }

    /// A plugin's volume was mounted for a container by an earlier daemon; whether it is a plugin's. Only the plugin
    /// knows whether it still is.
    pub(crate) fn remember_mount(&self, name: &str, container: &ContainerId) -> bool {
        let mut table = self.table();
        let entry = table.get_mut(name).filter(|entry| !entry.is_local());
        entry.map(|entry| entry.mounted.insert(container.clone())).is_some()
    }

    /// The container has ended. Errors are logged: there is nobody to tell.
    pub(crate) async fn unmount(&self, name: &str, container: &ContainerId) {
        let _one_change = self.one_change(name).await;
        let (was_mounted, entry) = {
            let mut table = self.table();
            let Some(entry) = table.get_mut(name) else { return };
            (entry.mounted.remove(container), entry.clone())
        };
        if !was_mounted {
            return;
        }
        let unmounted = match entry.is_local() {
            true if entry.mounted.is_empty() => self.detach(name).await,
            true => Ok(()),
            false => self.unmount_by(name, &entry, container).await,
        };
        if let Err(error) = unmounted {
            tracing::warn!(volume = name, %error, "volume stays mounted");
        }
    }

    async fn unmount_by(&self, name: &str, entry: &Entry, container: &ContainerId) -> Result<()> {
        if let Some(driver) = self.driver(&entry.driver).await? {
            driver.unmount(name, container.as_str()).await?;
        }
        if let Some(entry) = self.table().get_mut(name).filter(|entry| entry.mounted.is_empty()) {
            entry.mountpoint.clear();
        }
        Ok(())
    }

    /// Tells that a container starts with a volume (source: moby `daemon/volumes_unix.go`, setupMounts).
    pub(crate) fn emit_mount(&self, point: &MountPoint, container: &ContainerId) {
        let attributes = [
            ("driver", point.driver.clone()),
            ("container", container.to_string()),
            ("destination", point.destination.clone()),
            ("read/write", point.rw.to_string()),
            ("propagation", point.propagation.clone()),
        ];
        self.emit("mount", &point.name, attributes.map(|(key, value)| (key.to_owned(), value)).into());
    }

    /// Tells that a container with it has ended.
    pub(crate) fn emit_unmount(&self, name: &str, container: &ContainerId) {
        let driver = self.table().get(name).map_or_else(String::new, |entry| entry.driver.clone());
        let attributes = [("driver", driver), ("container", container.to_string())];
        self.emit("unmount", name, attributes.map(|(key, value)| (key.to_owned(), value)).into());
    }

    /// Unmounts what an earlier daemon left mounted.
    pub(super) async fn unmount_forgotten(&self, name: &str) -> Result<()> {
        let mounted = self.table().get(name).is_some_and(has_own_mount);
        if mounted { self.detach(name).await } else { Ok(()) }
    }

    /// Unmounts what no container has mounted, after all that run are known: a crash in a start leaves such mounts.
    pub(crate) async fn unmount_unused(&self) {
        let unused: Vec<String> = {
            let table = self.table();
            let mounts = table.iter().filter(|(_, entry)| has_own_mount(entry));
            mounts.filter(|(_, entry)| entry.mounted.is_empty()).map(|(name, _)| name.clone()).collect()
        };
        for name in unused {
            let _one_change = self.one_change(&name).await;
            if let Err(error) = self.detach(&name).await {
                tracing::warn!(volume = name, %error, "volume stays mounted");
            }
        }
    }

    async fn detach(&self, name: &str) -> Result<()> {
        let dir = self.data_dir(name);
        blocking(move || {
            wharf_sys::mount::detach_if_mounted(&dir).map(drop).map_err(|e| Error::Io {
                step: "unmount volume",
                path: dir,
                source: std::io::Error::other(e),
            })
        })
        .await
    }
}

fn has_own_mount(entry: &Entry) -> bool {
    entry.is_local() && LocalMount::of(entry.options.as_ref()).is_some()
}

fn is_mounted(dir: &Path) -> Result<bool> {
    use rustix::fs::{Mode, OFlags};
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let io = |source| Error::Io { step: "look at volume", path: dir.into(), source };
    let above = open(dir.parent().unwrap_or(dir)).map_err(|e| io(e.into()))?;
    let same = wharf_sys::mount::same_mount(open(dir).map_err(|e| io(e.into()))?, above);
    same.map(|same| !same).map_err(|e| io(std::io::Error::other(e)))
}
