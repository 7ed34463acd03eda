//! Mounting: a volume with options (`type=tmpfs`, `type=nfs`, `o=bind`) is a mount of its own on its `_data`,
//! there while a container with it runs.

use super::Volumes;
use crate::{Error, Result, blocking::blocking};
use std::path::{Path, PathBuf};
use wharf_api::StringMap;
use wharf_spec::ContainerId;

impl Volumes {
    /// Makes sure that a volume's data is there for a container that starts.
    ///
    /// # Errors
    /// When the volume is gone, or its mount fails.
    pub(crate) async fn mount(&self, name: &str, container: &ContainerId) -> Result<()> {
        let _one_change = self.0.changing.lock().await;
        let (options, first) = {
            let table = self.table();
            let entry = table.get(name).ok_or_else(|| Error::NoSuchVolume(name.into()))?;
            (needs_mount(entry.options.as_ref()), entry.mounted.is_empty())
        };
        let Some(options) = options else { return Ok(()) };
        if first {
            let dir = self.data_dir(name);
            // An earlier daemon may have mounted it for a container that runs on.
            blocking(move || if is_mounted(&dir)? { Ok(()) } else { mount(&dir, &options) }).await?;
        }
        if let Some(entry) = self.table().get_mut(name) {
            entry.mounted.insert(container.clone());
        }
        Ok(())
    }

    /// The container has ended. Errors are logged: there is nobody to tell.
    pub(crate) async fn unmount(&self, name: &str, container: &ContainerId) {
        let _one_change = self.0.changing.lock().await;
        let last = self
            .table()
            .get_mut(name)
            .is_some_and(|entry| entry.mounted.remove(container) && entry.mounted.is_empty());
        if last && let Err(error) = self.detach(name).await {
            tracing::warn!(volume = name, %error, "volume stays mounted");
        }
    }

    /// Unmounts what an earlier daemon left mounted.
    pub(super) async fn unmount_forgotten(&self, name: &str) -> Result<()> {
        let mounted =
            self.table().get(name).is_some_and(|entry| needs_mount(entry.options.as_ref()).is_some());
        if mounted { self.detach(name).await } else { Ok(()) }
    }

    /// Unmounts what no container has mounted, after all that run are known: a crash in a start leaves such mounts.
    pub(crate) async fn unmount_unused(&self) {
        let _one_change = self.0.changing.lock().await;
        let unused: Vec<String> = {
            let table = self.table();
            let mounts = table.iter().filter(|(_, entry)| needs_mount(entry.options.as_ref()).is_some());
            mounts.filter(|(_, entry)| entry.mounted.is_empty()).map(|(name, _)| name.clone()).collect()
        };
        for name in unused {
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

/// What is mounted.
struct MountOptions {
    kind: String,
    device: String,
    data: String,
}

fn needs_mount(options: Option<&StringMap>) -> Option<MountOptions> {
    let options = options?;
    let get = |key: &str| options.get(key).cloned().unwrap_or_default();
    let wanted = MountOptions { kind: get("type"), device: get("device"), data: get("o") };
    (!wanted.kind.is_empty() || !wanted.device.is_empty()).then_some(wanted)
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

/// As mount(8) does for local file systems: words that are flags are flags, the rest is data.
fn mount(dir: &Path, options: &MountOptions) -> Result<()> {
    use rustix::mount::MountFlags;
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for word in options.data.split(',').filter(|w| !w.is_empty()) {
        match word {
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" => {}
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            other => data.push(other),
        }
    }
    let data = std::ffi::CString::new(data.join(","))
        .map_err(|_| Error::Invalid("volume options hold a zero byte".into()))?;
    rustix::mount::mount(options.device.as_str(), dir, options.kind.as_str(), flags, data.as_c_str())
        .and_then(|()| readonly_bind(dir, flags))
        .map_err(|errno| {
            let source = std::io::Error::from(errno);
            let (device, path): (_, PathBuf) = (&options.device, dir.into());
            tracing::debug!(device, "local volume not mounted");
            Error::Io { step: "failed to mount local volume", path, source }
        })
}

/// A bind mount takes its flags only when it is mounted again.
fn readonly_bind(dir: &Path, flags: rustix::mount::MountFlags) -> rustix::io::Result<()> {
    use rustix::mount::MountFlags;
    if flags.contains(MountFlags::BIND) && flags.contains(MountFlags::RDONLY) {
        return rustix::mount::mount_remount(dir, MountFlags::BIND | MountFlags::RDONLY, c"");
    }
    Ok(())
}
