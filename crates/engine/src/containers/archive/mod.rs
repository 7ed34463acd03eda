//! `HEAD`, `GET` and `PUT /containers/{id}/archive`: `docker cp` (source: moby `daemon/archive_unix.go`).
//!
//! Paths are resolved inside the container's root, of a running one as its processes see it (CVE-2018-15664);
//! nothing of the container is executed or loaded (CVE-2019-14271, CVE-2026-41567), and no mount point is made
//! (CVE-2026-41568).

mod view;

use super::{Container, Containers, rootfs::resolve_user, validate_path};
use crate::{
    Error, Result,
    blocking::blocking,
    images::{ByteStream, StreamReader, StreamWriter},
    state::Verb,
};
use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};
use std::{
    ffi::OsStr,
    io::Write,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    sync::Arc,
};
use view::{Named, View};
use wharf_api::{container::PathStat, time::Time};
pub use wharf_archive::Encoding;
use wharf_archive::{Decompressor, Encoder, Links, Options, Overwrite, Owner, PackOptions, Packer, unpack};
use wharf_spec::plan::IdMaps;

/// For [`Containers::archive_put`].
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// A directory is not replaced by another kind of file, nor the reverse.
    pub keep_kind: bool,
    /// Files belong to the container's user.
    pub own_by_user: bool,
}

impl Containers {
    /// What a path of a container is.
    ///
    /// # Errors
    /// `Could not find the file ... in container ...`.
    pub async fn archive_stat(&self, id_or_name: &str, path: &str) -> Result<PathStat> {
        let container = self.get(id_or_name)?;
        let view = self.view(&container).await?;
        let (path, failed) = (path.to_owned(), failed("lstat", id_or_name, path));
        blocking(move || stat_path(&view, &path).map_err(failed)).await
    }

    /// A path of a container as a tar archive, compressed or not.
    ///
    /// # Errors
    /// As [`Self::archive_stat`]. What fails later ends the stream.
    pub async fn archive_get(
        &self,
        id_or_name: &str,
        path: &str,
        encoding: Encoding,
    ) -> Result<(PathStat, ByteStream)> {
        let container = self.get(id_or_name)?;
        let view = self.view(&container).await?;
        let (wanted, failed) = (path.to_owned(), failed("lstat", id_or_name, path));
        let (writer, stream) = StreamWriter::new();
        let stat = blocking(move || {
            let opened = stat_path(&view, &wanted).and_then(|stat| Ok((stat, view.open_named(&wanted)?)));
            let (stat, named) = opened.map_err(failed)?;
            // The stream is read after this answer: it is written elsewhere.
            std::thread::spawn(move || {
                send(&named, view.ids.clone(), writer, encoding);
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
        let (target, failed) = (path.to_owned(), failed("", id_or_name, path));
        let user = container.with(|state| state.record.config.user.clone());
        let reader = StreamReader::new(tar);
        let put = move |reader: &mut StreamReader| {
            let directory = view.open_directory(&target, failed)?;
            let owner = match options.own_by_user && !user.is_empty() {
                true => {
                    let user = resolve_user(&view.merged, &user, &[])?;
                    Owner::Fixed { uid: user.uid, gid: user.gid }
                }
                false => Owner::Archive,
            };
            let overwrite = if options.keep_kind { Overwrite::KeepKind } else { Overwrite::Replace };
            let ids = view.ids.clone();
            let options = Options { overwrite, owner, links: Links::Inside, ids, ..Options::default() };
            let shown = view.evaluate(Path::new(&validate_path(&target)));
            let failed = |e: wharf_archive::Error| Error::Refused(e.below(&shown.to_string_lossy()));
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
        let volumes = match container.is_running() {
            true => Vec::new(),
            false => container.volume_names(),
        };
        for name in &volumes {
            if let Err(error) = self.parts().volumes.mount(name, &container.id).await {
                tracing::warn!(container = %container.id, volume = name, %error, "volume left out of a copy");
            }
        }
        let (layers, own) = (self.parts().images.layers().clone(), Arc::clone(container));
        let ids = self.config().ids();
        // What is opened keeps the volumes' mounts.
        let opened = blocking(move || view::open(layers, &own, ids)).await;
        for name in &volumes {
            self.parts().volumes.unmount(name, &container.id).await;
        }
        opened
    }
}

/// What opening a path that failed comes to: `call` is Go's, empty for one that names no path.
fn failed(call: &'static str, container: &str, path: &str) -> impl Fn(wharf_sys::Error) -> Error + use<> {
    let (path, container) = (path.to_owned(), container.to_owned());
    move |error| match view::not_there(call, &validate_path(&path), &error) {
        Some(error) => error,
        None if error.errno().is_none_or(|errno| errno == Errno::NOENT) => {
            tracing::debug!(%error, "path of a container");
            Error::NotFound(format!("Could not find the file {path} in container {container}"))
        }
        None => Error::Refused(error.to_string()),
    }
}

fn stat_path(view: &View, path: &str) -> Result<PathStat, wharf_sys::Error> {
    let named = view.open_named(path)?;
    let name = OsStr::from_bytes(&named.name);
    let stat = rustix::fs::statat(&named.parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| wharf_sys::Error::call("stat", path, e))?;
    let link_target = match FileType::from_raw_mode(stat.st_mode).is_symlink() {
        true => view.evaluate(Path::new(&validate_path(path))).to_string_lossy().into_owned(),
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
fn send(named: &Named, ids: Option<Arc<IdMaps>>, writer: StreamWriter, encoding: Encoding) {
    let options = PackOptions { ids, ..PackOptions::default() };
    let mut packer = Packer::new(Encoder::new(writer, encoding), options);
    let packed = packer.tree(named.parent.as_fd(), &named.name, named.shown.as_bytes());
    match packed.and_then(|()| packer.finish()).and_then(Encoder::finish) {
        Ok(mut writer) => drop(writer.flush()),
        Err(error) => tracing::warn!(%error, "copy out of a container broke off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};
    use wharf_sys::path::Root;

    fn view(dir: &Path) -> View {
        View {
            root: Root::open(dir).unwrap(),
            mounts: vec![view::Place {
                destination: "/vol".into(),
                source: dir.join("volume"),
                point: None,
                tree: Some(Arc::new(fs::File::open(dir.join("volume")).unwrap().into())),
                writable: false,
                is_attached: false,
            }],
            readonly_rootfs: false,
            merged: dir.into(),
            ids: None,
            namespace: None,
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
        symlink("link", dir.join("chain")).unwrap();
        symlink("chain/nowhere/../gone", dir.join("dangling")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        assert_eq!(stat("/link").link_target, "/etc");
        assert_eq!(stat("/chain").link_target, "/etc");
        assert_eq!(stat("/dangling").link_target, "/etc/gone");
        assert_eq!(stat("/loop").link_target, "/loop");
        assert_eq!(stat("/link").mode & 1 << 27, 1 << 27);
        assert_eq!(stat("/link/").mode & 1 << 31, 1 << 31);
        assert_eq!(stat("/escape").link_target, "/etc/hostname");
        assert_eq!(stat("/vol/sub/file").size, 5);
        assert_eq!(stat("/").name, "/");
        assert!(stat_path(&view, "/nosuch/x").is_err());
        let directory = |path: &str| view.open_directory(path, failed("", "c", path)).map(drop);
        assert_eq!(
            directory("/etc/hostname").unwrap_err().to_string(),
            "extraction point is not a directory"
        );
        assert_eq!(directory("/vol/sub").unwrap_err().to_string(), "mounted volume is marked read-only");
        assert_eq!(directory("/no").unwrap_err().to_string(), "Could not find the file /no in container c");
        assert_eq!(directory("/etc/hostname/x").unwrap_err().to_string(), "not a directory");
        assert!(directory("/link").is_ok());
        fs::remove_dir_all(&dir).unwrap();
    }
}
