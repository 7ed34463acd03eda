//! This machine's side of a copy (source: moby `go-archive/copy.go`, docker/cli `cli/command/utils.go`).

use super::{
    refuse_device,
    rules::{self, Place},
    stream::Fed,
};
use crate::{
    error::{Error, Result},
    opts::keyvalue::go_error,
};
use rustix::fs::{CWD, Mode, OFlags};
use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::Path,
};
use wharf_archive::{Extractor, Kind, Links, Options, Overwrite, Owner, Reader};

/// How many links a destination may be.
const MAX_LINKS: usize = 10;

/// An absolute path that keeps the end it was given.
pub(super) fn absolute(path: &str) -> Result<String> {
    if path.starts_with('/') {
        return Ok(rules::keep_end(rules::clean(path), path));
    }
    let here = std::env::current_dir()?;
    Ok(rules::keep_end(rules::join(&here.to_string_lossy(), path), path))
}

/// `lstat /x: no such file or directory`
fn failed(operation: &str, path: &str, error: &io::Error) -> Error {
    Error::text(format!("{operation} {path}: {}", go_error(error)))
}

/// Refuses a destination that has no directory, or is a device (`ValidateOutputPath`).
pub(super) fn check_output(path: &str) -> Result<()> {
    let directory = rules::split(&rules::clean(path)).0;
    if matches!(fs::metadata(&directory), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return Err(Error::text(format!("invalid output path: directory {directory:?} does not exist")));
    }
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed("stat", path, &error))?,
    };
    let kind = found.file_type();
    let mode = if kind.is_char_device() || kind.is_block_device() { super::MODE_DEVICE } else { 0 };
    refuse_device(mode, &format!("invalid output path: {path:?}"))
}

/// What is to be copied. Links in its directory are followed, the last one only when `follow` says so
/// (`CopyInfoSourcePath`).
pub(super) fn source(path: &str, follow: bool) -> Result<Place> {
    let (path, rebase) = match follow {
        true => rules::rebase_name(path, &resolve(path)?),
        false => {
            let slash = path.rfind('/').map_or(0, |at| at + 1);
            let resolved = format!("{}/{}", resolve(&path[..slash])?, &path[slash..]);
            let has_moved = path.ends_with('/') && rules::base(path) != rules::base(&resolved);
            let rebase = has_moved.then(|| rules::base(path).to_owned());
            (resolved, rebase)
        }
    };
    let found = fs::symlink_metadata(&path).map_err(|error| failed("lstat", &path, &error))?;
    Ok(Place { path, exists: true, is_directory: found.is_dir(), rebase })
}

/// The path without links. The error names the first part that is not there, links on the way followed, as Go's
/// does; what stands where a directory should is not named.
fn resolve(path: &str) -> Result<String> {
    let error = match fs::canonicalize(path) {
        Ok(resolved) => return Ok(resolved.to_string_lossy().into_owned()),
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::NotADirectory {
        return Err(Error::text(go_error(&error)));
    }
    let mut parts: Vec<&Path> = Path::new(path).ancestors().collect();
    parts.reverse();
    let missing = parts.into_iter().find(|part| fs::metadata(part).is_err()).unwrap_or(Path::new(path));
    match fs::read_link(missing) {
        Ok(link) if error.kind() == io::ErrorKind::NotFound => {
            let parent = missing.parent().unwrap_or(Path::new("/"));
            resolve(&rules::clean(&parent.join(link).to_string_lossy()))
        }
        _ => Err(failed("lstat", &missing.display().to_string(), &error)),
    }
}

/// Where a copy goes, all links followed. What does not exist has at least a directory
/// (`CopyInfoDestinationPath`).
fn target(path: &str) -> Result<Place> {
    let mut place = Place { path: path.to_owned(), ..Place::default() };
    for _ in 0..=MAX_LINKS + 1 {
        let found = match fs::symlink_metadata(&place.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return in_directory(place),
            other => other.map_err(|error| failed("lstat", &place.path, &error))?,
        };
        if !found.is_symlink() {
            (place.exists, place.is_directory) = (true, found.is_dir());
            return Ok(place);
        }
        let link = fs::read_link(&place.path).map_err(|error| failed("readlink", &place.path, &error))?;
        let link = link.to_string_lossy();
        place.path = match link.starts_with('/') {
            true => link.into_owned(),
            false => rules::join(&rules::split(&place.path).0, &link),
        };
    }
    Err(Error::text(format!("too many symlinks in {path}")))
}

fn in_directory(place: Place) -> Result<Place> {
    let directory = rules::split(&place.path).0;
    let found = fs::metadata(&directory).map_err(|error| failed("stat", &directory, &error))?;
    if !found.is_dir() {
        return Err(Error::text("not a directory"));
    }
    Ok(place)
}

/// Extracts an archive of `source`, files belonging to whoever does it.
pub(super) fn extract(archive: Fed, source: &Place, path: &str) -> Result<()> {
    let plan = rules::prepare(source, &target(path)?)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, plan.directory.as_str(), flags, Mode::empty())
        .map_err(|error| failed("open", &plan.directory, &error.into()))?;
    // The name of what was asked for, then the name that it gets here.
    let asked = source.rebase.clone().map(|name| (rules::split(&source.path).1, name));
    let renames: Vec<(String, String)> = asked.into_iter().chain(plan.rename).collect();
    let renamed =
        |name: &[u8]| renames.iter().fold(name.to_vec(), |name, (old, new)| rules::renamed(&name, old, new));
    let told = |error: wharf_archive::Error| Error::text(error.below(&plan.directory));
    let options = Options {
        overwrite: Overwrite::KeepKind,
        owner: Owner::Caller,
        links: Links::Inside,
        ..Options::default()
    };
    let mut reader = Reader::new(archive);
    let mut extractor = Extractor::new(directory.as_fd(), options).map_err(told)?;
    while let Some(mut header) = reader.next_entry().map_err(told)? {
        header.name = renamed(&header.name);
        if header.kind == Kind::HardLink {
            header.link = renamed(&header.link);
        }
        extractor.entry(&header, reader.content()).map_err(told)?;
    }
    extractor.finish().map(drop).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn sources_and_destinations_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap().display().to_string();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let at = |name: &str| format!("{root}/{name}");
        let found = source(&at("link"), false).unwrap();
        assert_eq!((found.is_directory, found.path), (false, at("link")));
        let found = source(&at("link/"), false).unwrap();
        assert_eq!((found.is_directory, found.rebase.as_deref()), (true, Some("link")));
        let found = source(&at("link"), true).unwrap();
        assert_eq!((found.path, found.rebase.as_deref()), (at("real"), Some("link")));
        let error = |path: String| source(&path, false).unwrap_err().to_string();
        assert_eq!(error(at("no")), format!("lstat {}: no such file or directory", at("no")));
        assert_eq!(error(at("no/x/y")), format!("lstat {}: no such file or directory", at("no")));
        assert_eq!(error(at("file/")), "not a directory");
        let error = source(&at("dangling"), true).unwrap_err().to_string();
        assert_eq!(error, format!("lstat {}: no such file or directory", at("nowhere")));

        assert!(target(&at("link")).unwrap().is_directory);
        let made = target(&at("dangling")).unwrap();
        assert_eq!((made.exists, made.path), (false, at("nowhere")));
        assert!(target(&at("loop")).unwrap_err().to_string().starts_with("too many symlinks in"));
        let refused = check_output("/nosuch/x").unwrap_err().to_string();
        assert_eq!(refused, "invalid output path: directory \"/nosuch\" does not exist");
        let refused = check_output("/dev/null").unwrap_err().to_string();
        assert!(refused.ends_with("must be a directory or a regular file: got a device"), "{refused}");
    }
}
