//! What a copy is called and where it goes: the rules of `cp -a`, with Docker's trailing slashes and dots
//! (source: moby `go-archive/copy.go`). Pure: nothing is looked at here.

use crate::error::{Error, Result};

/// A source or a destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_directory: bool,
    /// What its copy is called when that is not the last part of the path: a link was followed on the way.
    pub(super) rebase: Option<String>,
}

/// Where an archive is extracted, and what changes in its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) directory: String,
    /// The first part of the names, and what it becomes.
    pub(super) rename: Option<(String, String)>,
}

impl Plan {
    /// What the first entry of an archive of the source is called.
    pub(super) fn name(&self, source: &Place) -> String {
        match &self.rename {
            Some((_, name)) => name.clone(),
            None => source.name(),
        }
    }
}

impl Place {
    fn name(&self) -> String {
        self.rebase.clone().unwrap_or_else(|| split(&self.path).1)
    }
}

/// Decides by what source and destination are (`PrepareArchiveCopy`).
pub(super) fn prepare(source: &Place, target: &Place) -> Result<Plan> {
    if target.exists && target.is_directory {
        return Ok(Plan { directory: target.path.clone(), rename: None });
    }
    if target.exists && source.is_directory {
        return Err(Error::text("cannot copy directory"));
    }
    if !target.exists && !source.is_directory && asserts_directory(&target.path) {
        return Err(Error::text("no such directory"));
    }
    let (directory, name) = split(&target.path);
    Ok(Plan { directory, rename: Some((source.name(), name)) })
}

/// Replaces the first part of an archive's name (`RebaseArchiveEntries`). The root stands before every name.
pub(super) fn renamed(name: &[u8], old: &str, new: &str) -> Vec<u8> {
    let old = if old == "/" { "" } else { old }.as_bytes();
    let at = match old {
        [] => Some(0),
        _ => name.windows(old.len()).position(|part| part == old),
    };
    match at {
        None => name.to_vec(),
        Some(at) => [&name[..at], new.as_bytes(), &name[at + old.len()..]].concat(),
    }
}

/// Go's `path.Clean`.
pub(super) fn clean(path: &str) -> String {
    String::from_utf8(wharf_archive::clean(path.as_bytes())).unwrap_or_else(|_| path.to_owned())
}

/// Go's `path.Base`.
pub(super) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

/// Go's `path.Join` of two.
pub(super) fn join(parent: &str, name: &str) -> String {
    clean(&format!("{parent}/{name}"))
}

/// Directory and last name of a cleaned path; a `.` at the end stays (`SplitPathDirEntry`).
pub(super) fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if is_current(path) {
        cleaned.push_str("/.");
    }
    let directory = cleaned.rfind('/').map_or("", |slash| &cleaned[..=slash]);
    (clean(directory), base(&cleaned).to_owned())
}

/// The cleaned path with the slash or dot at the end that the original has (`PreserveTrailingDotOrSeparator`).
pub(super) fn keep_end(mut cleaned: String, original: &str) -> String {
    if !is_current(&cleaned) && is_current(original) {
        if !cleaned.ends_with('/') {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    if !cleaned.ends_with('/') && original.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// Path and name of a copy whose source was a link: the path gets the end that was asked for, and the name is
/// the link's where it differs (`GetRebaseName`).
pub(super) fn rebase_name(path: &str, resolved: &str) -> (String, Option<String>) {
    let mut resolved = resolved.to_owned();
    if is_current(path) && !is_current(&resolved) {
        resolved.push_str("/.");
    }
    if path.ends_with('/') && !resolved.ends_with('/') {
        resolved.push('/');
    }
    let rebase = (base(path) != base(&resolved)).then(|| base(path).to_owned());
    (resolved, rebase)
}

/// Whether the last part is `.`.
pub(super) fn is_current(path: &str) -> bool {
    base(path) == "."
}

fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || is_current(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, exists: bool, is_directory: bool) -> Place {
        Place { path: path.into(), exists, is_directory, rebase: None }
    }

    #[test]
    fn every_kind_of_source_and_destination() {
        let (file, directory) = (place("/s/file", true, false), place("/s/dir", true, true));
        let content = place("/s/dir/.", true, true);
        let rename = |old: &str, new: &str| Some((old.to_owned(), new.to_owned()));
        for (source, target, expected) in [
            (&file, place("/d/new", false, false), Ok(("/d", rename("file", "new")))),
            (&file, place("/d/new/", false, false), Err("no such directory")),
            (&file, place("/d/new/.", false, false), Err("no such directory")),
            (&file, place("/d/old", true, false), Ok(("/d", rename("file", "old")))),
            (&file, place("/d", true, true), Ok(("/d", None))),
            (&directory, place("/d/new", false, false), Ok(("/d", rename("dir", "new")))),
            (&directory, place("/d/new/", false, false), Ok(("/d", rename("dir", "new")))),
            (&directory, place("/d/old", true, false), Err("cannot copy directory")),
            (&directory, place("/d", true, true), Ok(("/d", None))),
            (&content, place("/d/new", false, false), Ok(("/d", rename(".", "new")))),
            (&content, place("/d", true, true), Ok(("/d", None))),
        ] {
            let got = prepare(source, &target).map_err(|e| e.to_string());
            let expected = expected
                .map_err(str::to_owned)
                .map(|(directory, rename)| Plan { directory: directory.into(), rename });
            assert_eq!(got, expected, "{} -> {}", source.path, target.path);
        }
        assert_eq!(prepare(&file, &place("/d", true, true)).unwrap().name(&file), "file");
        assert_eq!(prepare(&content, &place("/d", true, true)).unwrap().name(&content), ".");
    }

    #[test]
    fn paths_are_cut_as_go_cuts_them() {
        for (path, directory, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/", "/", "/"),
            ("/.", "/", "."),
            ("a", ".", "a"),
            ("", ".", "."),
        ] {
            assert_eq!(split(path), (directory.to_owned(), name.to_owned()), "{path}");
        }
        assert_eq!(keep_end("/a".into(), "../a/"), "/a/");
        assert_eq!(keep_end("/a".into(), "./a/."), "/a/.");
        assert_eq!(keep_end("/".into(), "/."), "/.");
        assert_eq!(keep_end("/".into(), "/"), "/");
    }

    #[test]
    fn links_keep_their_names() {
        assert_eq!(rebase_name("/l", "/t/x"), ("/t/x".into(), Some("l".into())));
        assert_eq!(rebase_name("/l/", "/t/x"), ("/t/x/".into(), Some("l".into())));
        assert_eq!(rebase_name("/l/.", "/t/x"), ("/t/x/.".into(), None));
        assert_eq!(rebase_name("/l", "/t/l"), ("/t/l".into(), None));
    }

    #[test]
    fn names_are_rebased_once() {
        let renamed = |name: &str, old, new| String::from_utf8(renamed(name.as_bytes(), old, new)).unwrap();
        assert_eq!(renamed("dir/dir", "dir", "new"), "new/dir");
        assert_eq!(renamed("./a.b", ".", "new"), "new/a.b");
        assert_eq!(renamed("/bin/sh", "/", "new"), "new/bin/sh");
        assert_eq!(renamed("x", "dir", "new"), "x");
    }
}
