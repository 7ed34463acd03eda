//! `COPY` and `ADD`: files into a root (source: moby `daemon/builder/dockerfile/copy.go`, `performCopyForInfo`).
//!
//! Files go as an archive from one root to the other, packed on one thread and extracted on another: what holds for
//! layers (links, devices, attributes, hostile names) holds here.

use crate::{
    Error, Result,
    error::refuse,
    mode::Mode,
    select::{at, cleaned, follow, follow_to_end, open_directory},
};
use rustix::fs::{FileType, OFlags};
use std::{
    fs::File,
    io::{Read, Seek},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};
use wharf_archive::{Decompressor, Extractor, Options, Owner, PackOptions, Packer, Reader};
use wharf_dockerfile::Patterns;
use wharf_spec::user;
use wharf_sys::path::Root;

/// Set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;

/// How files are copied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// Whom they belong to; `None`: as before.
    pub(crate) owner: Option<(u32, u32)>,
    /// What becomes of their permissions.
    pub(crate) mode: Option<Mode>,
    /// Left out of directories.
    pub(crate) excluded: Patterns,
    /// Archives are unpacked.
    pub(crate) unpack: bool,
    /// With the directories above them: `--parents`.
    pub(crate) parents: bool,
}

/// A destination: a directory or a file's name, as the instruction has it.
pub(crate) struct Destination<'r> {
    pub(crate) root: &'r Root,
    /// Absolute; a slash at its end says that it is a directory.
    pub(crate) path: String,
}

/// Copies one selected file or directory.
///
/// # Errors
/// When something is in the way, or the disk fails.
pub(crate) fn copy(from: &Root, path: &str, to: &Destination<'_>, manner: &Manner) -> Result<()> {
    let given = path;
    let path = follow(from, path)?;
    let stat = from.stat_nofollow(Path::new(&at(&path)))?;
    if manner.parents {
        return with_parents(from, given, &path, to, manner);
    }
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        let target = make_directory(to.root, &to.path, manner)?;
        let directory = open_directory(from, &path)?;
        return transfer(&target, manner, |packer| packer.children(directory.as_fd(), b""));
    }
    if manner.unpack
        && let Some(archive) = archive(from, &path)?
    {
        let target = make_directory(to.root, &to.path, &Manner::default())?;
        let owner = Owner::Archive;
        wharf_archive::unpack(archive, target.as_fd(), Options { owner, ..Options::default() })?;
        return Ok(());
    }
    let name = given.rsplit('/').next().unwrap_or_default();
    file(from, &path, to, name, manner)
}

/// A file, to a name or into a directory.
fn file(from: &Root, path: &str, to: &Destination<'_>, name: &str, manner: &Manner) -> Result<()> {
    let wanted = follow_to_end(to.root, &cleaned(&to.path))?;
    let is_directory = to.path.ends_with('/') || is_directory(to.root, &wanted).unwrap_or(false);
    let whole = if is_directory { format!("{wanted}/{name}") } else { wanted };
    let (parent, last) = whole.rsplit_once('/').unwrap_or(("", &whole));
    let target = make_directory(to.root, parent, manner)?;
    let source = at(path);
    let (parent, name) = from.parent_of(Path::new(&source))?;
    transfer(&target, manner, |packer| packer.tree(parent.as_fd(), name.as_bytes(), last.as_bytes()))
}

/// `--parents`: below the destination as it is below the pivot `./`, or the root.
fn with_parents(from: &Root, given: &str, path: &str, to: &Destination<'_>, manner: &Manner) -> Result<()> {
    let kept = given.rsplit_once("./").map_or(given, |(_, kept)| kept);
    let plain = Manner { parents: false, ..manner.clone() };
    let below = format!("{}/{}", to.path.trim_end_matches('/'), cleaned(kept));
    let is_dir = is_directory(from, path)?;
    let target =
        if is_dir { below } else { below.rsplit_once('/').map_or(String::new(), |(p, _)| format!("{p}/")) };
    copy(from, path, &Destination { root: to.root, path: target }, &plain)
}

/// The directory at a path, made with its parents if need be: those belong to the owner of what is copied.
fn make_directory(root: &Root, path: &str, manner: &Manner) -> Result<OwnedFd> {
    let path = cleaned(path);
    let mut made = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        made = format!("{made}/{part}");
        let exists = root.resolve(Path::new(&made)).is_ok();
        let directory = root.mkdir_all(Path::new(&made), rustix::fs::Mode::from_raw_mode(0o755))?;
        if !exists {
            let (uid, gid) = manner.owner.unwrap_or((0, 0));
            let ids = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            let flags = rustix::fs::AtFlags::EMPTY_PATH;
            rustix::fs::chownat(&directory, "", Some(ids.0), Some(ids.1), flags)
                .map_err(|errno| Error::io("chown", &made)(errno.into()))?;
        }
    }
    open_directory(root, &path)
}

/// Packs on a thread of its own, extracts on this one, changing entries on their way.
fn transfer(
    target: &OwnedFd,
    manner: &Manner,
    pack: impl FnOnce(&mut Packer<std::io::PipeWriter>) -> Result<(), wharf_archive::Error> + Send,
) -> Result<()> {
    let (reader, writer) = std::io::pipe().map_err(Error::io("make", "pipe"))?;
    let (packed, extracted) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut packer = Packer::new(writer, PackOptions::default());
            pack(&mut packer)?;
            packer.finish().map(drop)
        });
        let extracted = extract(reader, target, manner);
        (packing.join(), extracted)
    });
    match packed {
        // What the reader says tells more than that the pipe broke.
        Ok(Err(error)) if extracted.is_ok() => Err(error.into()),
        Err(_) => refuse("copying panicked"),
        Ok(_) => extracted,
    }
}

fn extract(archive: impl Read, target: &OwnedFd, manner: &Manner) -> Result<()> {
    let owner = manner.owner.map_or(Owner::Archive, |(uid, gid)| Owner::Fixed { uid, gid });
    let mut reader = Reader::new(archive);
    let mut extractor = Extractor::new(target.as_fd(), Options { owner, ..Options::default() })?;
    while let Some(mut header) = reader.next_entry()? {
        let name = String::from_utf8_lossy(&header.name).into_owned();
        if manner.excluded.excludes(name.trim_end_matches('/')) {
            continue;
        }
        let is_directory = header.kind == wharf_archive::Kind::Directory;
        match &manner.mode {
            Some(mode) => header.mode = mode.apply(header.mode, is_directory),
            // A file that gets another owner loses these bits, as with chown(2), by which Docker does it.
            None if manner.owner.is_some() && !is_directory => header.mode &= !SET_ID,
            None => {}
        }
        extractor.entry(&header, reader.content())?;
    }
    extractor.finish()?;
    Ok(())
}

/// The archive that a file is, if it is one (source: moby/go-archive `IsArchivePath`).
fn archive(root: &Root, path: &str) -> Result<Option<impl Read + use<>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = root.open_file(Path::new(&at(path)), flags, rustix::fs::Mode::empty())?;
    let mut file = File::from(fd);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0) {
        return Ok(None);
    }
    let again = file.try_clone().map_err(Error::io("open", path))?;
    let is_archive =
        Decompressor::new(again).is_ok_and(|plain| matches!(Reader::new(plain).next_entry(), Ok(Some(_))));
    file.rewind().map_err(Error::io("read", path))?;
    Ok(if is_archive { Some(Decompressor::new(file)?) } else { None })
}

fn is_directory(root: &Root, path: &str) -> Result<bool> {
    let stat = root.stat_nofollow(Path::new(&at(path)))?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// `--chown`: numbers, or names of the root's own users and groups (source: moby
/// `daemon/builder/dockerfile/internals_linux.go`, parseChownFlag).
///
/// # Errors
/// When there is no such user or group.
pub(crate) fn owner(root: &Root, text: &str) -> Result<(u32, u32)> {
    let (name, group) = text.split_once(':').unwrap_or((text, text));
    if group.contains(':') {
        return refuse(format!("invalid chown string format: {text}"));
    }
    let lines = |path: &str| {
        let bytes = root.read_limited(Path::new(path), user::MAX_FILE as u64).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let number = |file: &str, name: &str| -> Option<u32> {
        let lines = lines(file);
        let mut fields = lines.lines().map(|line| line.split(':').collect::<Vec<_>>());
        fields.find(|fields| fields.first() == Some(&name)).and_then(|fields| fields.get(2)?.parse().ok())
    };
    let uid = name.parse().ok().or_else(|| number("/etc/passwd", name));
    let uid =
        uid.ok_or_else(|| Error::Refused(format!("can't find uid for user {name}: no such user: {name}")))?;
    let gid = group.parse().ok().or_else(|| number("/etc/group", group));
    let gid = gid
        .ok_or_else(|| Error::Refused(format!("can't find gid for group {group}: no such group: {group}")))?;
    Ok((uid, gid))
}
