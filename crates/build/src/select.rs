//! Which files `COPY` and `ADD` mean (source: moby `daemon/builder/dockerfile/copy.go`, `calcCopyInfo`).

use crate::{
    Error, Result,
    checksum::{Checksums, Known, join},
    context::escapes,
    error::refuse,
};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use wharf_dockerfile::{Patterns, glob};
use wharf_sys::path::Root;

/// A file or directory that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    /// Where it is in its tree, no slash in front; the tree itself is empty.
    pub(crate) path: String,
    /// What it would be copied as.
    pub(crate) digest: String,
}

/// Links to links; more are a circle (Linux `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What a path or pattern stands for. In a context, what is missing may be ignored, and digests are known.
pub(crate) fn select(
    root: &Root,
    given: &str,
    excluded: &Patterns,
    of_context: Option<&Known>,
) -> Result<Vec<Selected>> {
    let is_context = of_context.is_some();
    let mut checksums = Checksums::new(excluded.clone(), of_context);
    let given = given.strip_prefix('/').unwrap_or(given);
    let given = given.strip_prefix("./").unwrap_or(given);
    if !has_wildcards(given) {
        return one(root, given, &mut checksums, is_context).map(|selected| vec![selected]);
    }
    let path = cleaned(given);
    let mut found = Vec::new();
    let directory = open_directory(root, "")?;
    walk(directory, "", depth(&path), &mut |name| {
        if glob(&path, name).map_err(Error::Refused)? {
            found.push(name.to_owned());
        }
        Ok(())
    })?;
    found.sort_unstable();
    found.iter().map(|name| one(root, name, &mut checksums, is_context)).collect()
}

fn one(root: &Root, given: &str, checksums: &mut Checksums<'_>, is_context: bool) -> Result<Selected> {
    let missing = || {
        let why =
            if is_context { "file not found in build context or excluded by .dockerignore: " } else { "" };
        format!("{why}stat {given}: file does not exist")
    };
    let forbidden = || format!("forbidden path outside the build context: {given} ()");
    if escapes(Path::new(given)) {
        return refuse(forbidden());
    }
    let path = &cleaned(given);
    let followed = match follow(root, path) {
        Err(error) if error.is(Errno::NOENT) => return refuse(missing()),
        // moby's way through links gives up there, and says this of all its troubles.
        Err(error) if error.is(Errno::NOTDIR) => return refuse(forbidden()),
        other => other?,
    };
    let stat = root.stat_nofollow(Path::new(&at(&followed)))?;
    let digest = if FileType::from_raw_mode(stat.st_mode).is_dir() {
        checksums.directory(open_directory(root, &followed)?, &followed)?
    } else {
        let inside = at(&followed);
        let (parent, last) = root.parent_of(Path::new(&inside))?;
        checksums.file(parent.as_fd(), last, &followed)?
    };
    Ok(Selected { path: path.to_owned(), digest })
}

/// Where a path is once its last component is no link any more.
///
/// # Errors
/// When it leads nowhere, or in a circle.
pub(crate) fn follow(root: &Root, path: &str) -> Result<String, wharf_sys::Error> {
    let end = follow_to_end(root, path)?;
    root.stat_nofollow(Path::new(&at(&end)))?;
    Ok(end)
}

/// As [`follow`], for something that need not be there yet.
pub(crate) fn follow_to_end(root: &Root, path: &str) -> Result<String, wharf_sys::Error> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let stat = match root.stat_nofollow(Path::new(&at(&path))) {
            Err(error) if error.is(Errno::NOENT) => return Ok(path),
            other => other?,
        };
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return Ok(path);
        }
        let target = root.read_link(Path::new(&at(&path)))?.to_string_lossy().into_owned();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        path = if target.starts_with('/') { cleaned(&target) } else { cleaned(&join(parent, &target)) };
    }
    Err(wharf_sys::Error::call("open", path, Errno::LOOP))
}

/// A path as it is asked for in a root.
pub(crate) fn at(path: &str) -> String {
    format!("/{path}")
}

pub(crate) fn open_directory(root: &Root, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(root.open_file(Path::new(&at(path)), flags, Mode::empty())?)
}

/// All names below a directory, as far down as a pattern reaches.
fn walk(
    directory: OwnedFd,
    name: &str,
    levels: usize,
    each: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let io = |errno: Errno| Error::io("read", name)(errno.into());
    let entries = rustix::fs::Dir::read_from(&directory).map_err(io)?;
    for entry in entries {
        let entry = entry.map_err(io)?;
        let last = entry.file_name();
        if matches!(last.to_bytes(), b"." | b"..") {
            continue;
        }
        let whole = join(name, &String::from_utf8_lossy(last.to_bytes()));
        each(&whole)?;
        if levels > 1 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&directory, last, flags, Mode::empty()) {
                Ok(below) => walk(below, &whole, levels - 1, each)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(io(errno)),
            }
        }
    }
    Ok(())
}

fn depth(path: &str) -> usize {
    path.split('/').count()
}

/// Without `.`, `..` and slashes around; it never leads above its root.
pub(crate) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn has_wildcards(path: &str) -> bool {
    let mut escaped = false;
    path.chars().any(|c| {
        let special = !escaped && matches!(c, '*' | '?' | '[');
        escaped = !escaped && c == '\\';
        special
    })
}
