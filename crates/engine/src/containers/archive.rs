//! `HEAD`, `GET` and `PUT /containers/{id}/archive`: `docker cp` (source: moby `daemon/archive_unix.go`).
//!
//! Paths are resolved inside the container's root, of a running one as its processes see it (CVE-2018-15664);
//! nothing of the container is executed or loaded (CVE-2019-14271, CVE-2026-41567), and no mount point is made
//! (CVE-2026-41568).

use super::{Container, Containers, rootfs::resolve_user, validate_path};
use crate::{
    Error, Result,
    blocking::blocking,
    error::invalid,
    images::{ByteStream, StreamReader, StreamWriter},
    state::Verb,
};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use std::{
    ffi::OsStr,
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_api::{container::PathStat, time::Time};
use wharf_archive::{Decompressor, Options, Overwrite, Owner, PackOptions, Packer, unpack};
use wharf_spec::{ContainerId, plan::IdMaps};
use wharf_sys::path::{Root, readlink_at, reopen};

/// For [`Containers::archive_put`].
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// A directory is not replaced by another kind of file, nor the reverse.
    pub keep_kind: bool,
    /// Files belong to the container's user.
    pub own_by_user: bool,
}

/// A container's file system, open. A layer that was mounted for it is given back at the end.
struct View {
    root: Root,
    /// The root is that of a running process: its mounts are there already.
    live: bool,
    /// The container's mounts: destination, host path, writable.
    mounts: Vec<(PathBuf, PathBuf, bool)>,
    readonly_rootfs: bool,
    /// Where passwd and group files are.
    merged: PathBuf,
    /// Whom the host knows as the owners of files.
    ids: Option<Arc<IdMaps>>,
    mounted: Option<(crate::images::Layers, ContainerId)>,
}

/// A path of a container, split into what is resolved and what is named.
struct Named {
    parent: OwnedFd,
    /// `.` for the directory itself.
    name: Vec<u8>,
    /// What its copy is called.
    shown: String,
}

impl Containers {
    /// What a path of a container is.
    ///
    /// # Errors
    /// `Could not find the file ... in container ...`.
    pub async fn archive_stat(&self, id_or_name: &str, path: &str) -> Result<PathStat> {
        let container = self.get(id_or_name)?;
        let view = self.view(&container).await?;
        let (path, missing) = (path.to_owned(), missing(id_or_name, path));
        blocking(move || stat_path(&view, &path).map_err(missing)).await
    }

    /// A path of a container as a tar archive.
    ///
    /// # Errors
    /// As [`Self::archive_stat`]. What fails later ends the stream.
    pub async fn archive_get(&self, id_or_name: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let container = self.get(id_or_name)?;
        let view = self.view(&container).await?;
        let (wanted, missing) = (path.to_owned(), missing(id_or_name, path));
        let (writer, stream) = StreamWriter::new();
        let stat = blocking(move || {
            let opened = stat_path(&view, &wanted).and_then(|stat| Ok((stat, view.open_named(&wanted)?)));
            let (stat, named) = opened.map_err(missing)?;
            // The stream is read after this answer: it is written elsewhere.
            std::thread::spawn(move || {
                send(&named, view.ids.clone(), writer);
                drop(view);
            });
            Ok(stat)
        })
        .await?;
        self.emit(&container, "archive-path", [("path".to_owned(), path.to_owned())].into());
        Ok((stat, stream))
    }

    /// Extracts an archive, compressed or not, into a directory of a container.
    ///
    /// # Errors
    /// When the path is no directory, cannot be written, or the archive is none.
    pub async fn archive_put(
        &self,
        id_or_name: &str,
        path: &str,
        tar: ByteStream,
        options: PutOptions,
    ) -> Result<()> {
        let container = self.get(id_or_name)?;
        let view = self.view(&container).await?;
        let (target, missing) = (path.to_owned(), missing(id_or_name, path));
        let user = container.with(|state| state.record.config.user.clone());
        let reader = StreamReader::new(tar);
        let put = move |reader: &mut StreamReader| {
            let directory = view.open_directory(&target, missing)?;
            let owner = match options.own_by_user && !user.is_empty() {
                true => {
                    let user = resolve_user(&view.merged, &user, &[])?;
                    Owner::Fixed { uid: user.uid, gid: user.gid }
                }
                false => Owner::Archive,
            };
            let overwrite = if options.keep_kind { Overwrite::KeepKind } else { Overwrite::Replace };
            let options = Options { overwrite, owner, ids: view.ids.clone(), ..Options::default() };
            let failed = |e: wharf_archive::Error| Error::Refused(e.to_string());
            let archive = Decompressor::new(reader).map_err(failed)?;
            unpack(archive, directory.as_fd(), options).map(drop).map_err(failed)
        };
        blocking(move || reader.exhausted_by(put)).await?;
        self.emit(&container, "extract-to-dir", [("path".to_owned(), path.to_owned())].into());
        Ok(())
    }

    async fn view(&self, container: &Arc<Container>) -> Result<View> {
        container.check(Verb::Export)?;
        let _one_verb = container.lifecycle.lock().await;
        let (layers, container) = (self.parts().images.layers().clone(), Arc::clone(container));
        let ids = self.config().ids();
        blocking(move || open_view(layers, &container, ids)).await
    }
}

fn open_view(layers: crate::images::Layers, container: &Container, ids: Option<Arc<IdMaps>>) -> Result<View> {
    let id = container.id.clone();
    let merged = layers.mount(&id)?;
    let mounted = Some((layers, id));
    let readonly_rootfs = container.host_config().readonly_rootfs;
    let io = |path: &Path, e: wharf_sys::Error| Error::Io {
        step: "open root file system",
        path: path.into(),
        source: std::io::Error::other(e),
    };
    let pid = container.with(|state| state.status.run().map(|run| run.pid));
    let mounts: Vec<_> = container.with(|state| {
        let points = state.record.mount_points.values().filter(|p| !p.source.is_empty());
        points.map(|p| (p.destination.clone().into(), p.source.clone().into(), p.rw)).collect()
    });
    let path = match pid {
        Some(pid) => PathBuf::from(format!("/proc/{pid}/root")),
        None => merged.clone(),
    };
    let root = Root::open(&path).map_err(|e| io(&path, e))?;
    Ok(View { root, live: pid.is_some(), mounts, readonly_rootfs, merged, ids, mounted })
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some((layers, id)) = self.mounted.take()
            && let Err(error) = layers.unmount(&id)
        {
            tracing::warn!(container = %id, %error, "root file system stays mounted");
        }
    }
}

impl View {
    /// The root that a path belongs to, the path in it, and whether it can be written.
    fn place(&self, path: &Path) -> Result<(Root, PathBuf, Access), wharf_sys::Error> {
        let inside = self.mounts.iter().filter(|(destination, ..)| path.starts_with(destination));
        let nearest = inside.max_by_key(|(destination, ..)| destination.components().count());
        let Some((destination, source, rw)) = nearest else {
            let access = if self.readonly_rootfs { Access::ReadonlyRootfs } else { Access::Writable };
            return Ok((self.root.try_clone()?, path.to_owned(), access));
        };
        let access = if *rw { Access::Writable } else { Access::ReadonlyVolume };
        if self.live {
            return Ok((self.root.try_clone()?, path.to_owned(), access));
        }
        let rest = path.strip_prefix(destination).unwrap_or(Path::new(""));
        Ok((Root::open(source)?, Path::new("/").join(rest), access))
    }

    /// The last part of the path is not followed, unless a slash or `/.` ends it.
    fn open_named(&self, path: &str) -> Result<Named, wharf_sys::Error> {
        let clean = PathBuf::from(validate_path(path));
        let (root, inside, _) = self.place(&clean)?;
        let base = clean.file_name().map_or("/", |n| n.to_str().unwrap_or("/"));
        let shown = if path.ends_with("/.") { "." } else { base };
        if inside == Path::new("/") || follows(path) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let parent = root.open_file(&inside, flags, Mode::empty())?;
            return Ok(Named { parent, name: b".".to_vec(), shown: shown.to_owned() });
        }
        let (parent, name) = root.parent_of(&inside)?;
        Ok(Named { parent, name: name.as_bytes().to_vec(), shown: shown.to_owned() })
    }

    fn open_directory(&self, path: &str, missing: impl FnOnce(wharf_sys::Error) -> Error) -> Result<OwnedFd> {
        let clean = PathBuf::from(validate_path(path));
        let (root, inside, access) = match self.place(&clean) {
            Ok(place) => place,
            Err(error) => return Err(missing(error)),
        };
        let found = match root.resolve(&inside) {
            Ok(found) => found,
            Err(error) => return Err(missing(error)),
        };
        let kind = rustix::fs::fstat(&found).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if !kind.is_ok_and(|kind| kind.is_dir()) {
            return invalid("extraction point is not a directory");
        }
        match access {
            Access::Writable => {}
            Access::ReadonlyRootfs => return invalid("container rootfs is marked read-only"),
            Access::ReadonlyVolume => return invalid("mounted volume is marked read-only"),
        }
        reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).map_err(missing)
    }
}

/// Whether a path may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Writable,
    ReadonlyRootfs,
    ReadonlyVolume,
}

fn follows(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

fn missing(container: &str, path: &str) -> impl Fn(wharf_sys::Error) -> Error + use<> {
    let text = format!("Could not find the file {path} in container {container}");
    move |error| {
        tracing::debug!(%error, "path of a container");
        Error::NotFound(text.clone())
    }
}

fn stat_path(view: &View, path: &str) -> Result<PathStat, wharf_sys::Error> {
    let named = view.open_named(path)?;
    let name = OsStr::from_bytes(&named.name);
    let stat = rustix::fs::statat(&named.parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| wharf_sys::Error::call("stat", path, e))?;
    let link_target = match FileType::from_raw_mode(stat.st_mode).is_symlink() {
        true => link_target(&validate_path(path), &named),
        false => String::new(),
    };
    let mtime = jiff::Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    Ok(PathStat {
        name: named.shown,
        size: stat.st_size,
        mode: go_mode(&stat),
        mtime: mtime.map_or(Time::ZERO, Time),
        link_target,
    })
}

/// A link's target as an absolute path of the container.
fn link_target(path: &str, named: &Named) -> String {
    let Ok(target) = readlink_at(&named.parent, OsStr::from_bytes(&named.name)) else { return String::new() };
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    validate_path(&parent.join(target).to_string_lossy())
}

/// Go's `os.FileMode`: permissions in the low bits, the kind in the high ones (source: Go `io/fs`).
fn go_mode(stat: &Stat) -> u32 {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let mut mode = kind | stat.st_mode & 0o777;
    for (bit, go) in [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)] {
        if stat.st_mode & bit != 0 {
            mode |= go;
        }
    }
    mode
}

/// Packs into the stream; what fails ends it with the error.
fn send(named: &Named, ids: Option<Arc<IdMaps>>, writer: StreamWriter) {
    let mut packer = Packer::new(writer, PackOptions { ids, ..PackOptions::default() });
    let shown = named.shown.trim_end_matches('/');
    let shown = if shown.is_empty() { "." } else { shown };
    let packed = packer.tree(named.parent.as_fd(), &named.name, shown.as_bytes());
    match packed.and_then(|()| packer.finish()) {
        Ok(mut writer) => drop(writer.flush()),
        Err(error) => tracing::warn!(%error, "copy out of a container broke off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn view(dir: &Path) -> View {
        View {
            root: Root::open(dir).unwrap(),
            live: false,
            mounts: vec![("/vol".into(), dir.join("volume"), false)],
            readonly_rootfs: false,
            merged: dir.into(),
            ids: None,
            mounted: None,
        }
    }

    #[test]
    fn paths_stay_in_the_container_and_its_volumes() {
        let dir = std::env::temp_dir().join(format!("wharf-archive-{}", std::process::id()));
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::create_dir_all(dir.join("volume/sub")).unwrap();
        fs::write(dir.join("etc/hostname"), "inside").unwrap();
        fs::write(dir.join("volume/sub/file"), "12345").unwrap();
        symlink("/etc", dir.join("link")).unwrap();
        symlink("../../../../etc/hostname", dir.join("escape")).unwrap();
        let view = view(&dir);
        let stat = |path: &str| stat_path(&view, path).unwrap();
        assert_eq!((stat("/etc/hostname").size, stat("/etc/hostname").name.as_str()), (6, "hostname"));
        assert_eq!(stat("/link").link_target, "/etc");
        assert_eq!(stat("/link").mode & 1 << 27, 1 << 27);
        assert_eq!(stat("/link/").mode & 1 << 31, 1 << 31);
        assert_eq!(stat("/escape").link_target, "/etc/hostname");
        assert_eq!(stat("/vol/sub/file").size, 5);
        assert_eq!(stat("/").name, "/");
        assert!(stat_path(&view, "/nosuch/x").is_err());
        let directory = |path: &str| view.open_directory(path, missing("c", path)).map(drop);
        assert_eq!(
            directory("/etc/hostname").unwrap_err().to_string(),
            "extraction point is not a directory"
        );
        assert_eq!(directory("/vol/sub").unwrap_err().to_string(), "mounted volume is marked read-only");
        assert_eq!(directory("/no").unwrap_err().to_string(), "Could not find the file /no in container c");
        assert!(directory("/link").is_ok());
        fs::remove_dir_all(&dir).unwrap();
    }
}
