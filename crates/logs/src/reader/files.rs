//! Which files a log consists of at the moment, opened so that a rotation under way loses none.

use super::source::{self, Source};
use super::{Follow, ReadOptions};
use crate::compress;
use crate::entry::Format;
use crate::error::Error;
use crate::file::numbered;
use crate::time::key;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::Path;

/// How often a log that is being rotated is looked at again.
const ATTEMPTS: usize = 50;
/// Rotated files beyond this number are not looked for.
const MAX_FILES: u32 = 10_000;

/// The opened files.
#[derive(Debug)]
pub(super) struct LogFiles {
    /// The oldest first, the current last.
    pub(super) sources: Vec<Source>,
}

impl LogFiles {
    /// All files; those that `since` rules out are left out.
    pub(super) fn open(options: &ReadOptions) -> Result<LogFiles, Error> {
        let mut sources = Vec::new();
        for _ in 0..ATTEMPTS {
            let before = listing(&options.path);
            sources = open_all(options)?;
            if listing(&options.path) == before {
                break;
            }
        }
        // A rotation between two opens may have shown us a file twice.
        let mut seen = Vec::new();
        sources.retain(|source| {
            let is_new = !seen.contains(&source.inode());
            seen.push(source.inode());
            is_new
        });
        Ok(LogFiles { sources })
    }

    /// The current file alone, from its start.
    pub(super) fn open_current(path: &Path) -> Result<Option<Source>, Error> {
        open_plain(path, Follow::Yes)
    }

    /// What is younger than `last`, which is no longer current, and whether it is still there. Where it was removed
    /// or compressed meanwhile it is all files: what was read of them is known by its time.
    pub(super) fn after(options: &ReadOptions, last: &Source) -> Result<(Vec<Source>, bool), Error> {
        let all = LogFiles::open(&ReadOptions { since: None, ..options.clone() })?.sources;
        match all.iter().position(|s| s.inode() == last.inode()) {
            Some(at) => Ok((all.into_iter().skip(at + 1).collect(), true)),
            None => Ok((all, false)),
        }
    }
}

/// Whether `source` is what the log's path names.
pub(super) fn is_current(path: &Path, source: &Source) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) => source::inode(&metadata) == source.inode(),
        // In the middle of a rotation: not yet.
        Err(_) => true,
    }
}

/// Identities of the files, to notice a rotation.
fn listing(path: &Path) -> Vec<Option<(u64, u64)>> {
    let identity = |name: &Path| std::fs::metadata(name).ok().map(|m| source::inode(&m));
    let mut found = vec![identity(path)];
    for number in 1..=highest(path) {
        found.push(identity(&numbered(path, number, "")));
        found.push(identity(&numbered(path, number, ".gz")));
    }
    found
}

/// The highest number of a rotated file. During a rotation a number may be missing for a moment.
fn highest(path: &Path) -> u32 {
    let exists = |n: u32| numbered(path, n, "").exists() || numbered(path, n, ".gz").exists();
    let mut highest = 0;
    let mut number = 1;
    while number <= MAX_FILES && number <= highest + 2 {
        if exists(number) {
            highest = number;
        }
        number += 1;
    }
    highest
}

fn open_all(options: &ReadOptions) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for number in (1..=highest(&options.path)).rev() {
        // The plain file first: the compressed one may not be complete while there is a plain one.
        let found = match open_plain(&numbered(&options.path, number, ""), Follow::No)? {
            Some(plain) => Some(plain),
            None => open_gzip(&numbered(&options.path, number, ".gz"), options)?,
        };
        sources.extend(found);
    }
    sources.extend(open_plain(&options.path, options.follow)?);
    Ok(sources)
}

fn open_plain(path: &Path, follow: Follow) -> Result<Option<Source>, Error> {
    let Some((file, metadata)) = open_existing(path)? else { return Ok(None) };
    // Without following, what is written while we read is not ours to read: it might never end.
    let limit = (follow == Follow::No).then_some(metadata.len());
    Ok(Some(Source::plain(file, &metadata, limit)))
}

fn open_gzip(path: &Path, options: &ReadOptions) -> Result<Option<Source>, Error> {
    let Some((file, metadata)) = open_existing(path)? else { return Ok(None) };
    let mut source = Source::gzip(file, &metadata);
    let Some(since) = options.since else { return Ok(Some(source)) };
    // The header is read with the first bytes.
    let mut probe = super::Frames::new(Format::Json);
    let read_error = |source| Error::Read { path: path.into(), source };
    source.read_into(&mut probe).map_err(read_error)?;
    let is_too_old =
        source.gzip_extra().and_then(compress::last_time).is_some_and(|last| key(last) < key(since));
    if is_too_old {
        return Ok(None);
    }
    source.rewind().map(Some).map_err(read_error)
}

fn open_existing(path: &Path) -> Result<Option<(File, Metadata)>, Error> {
    let opened = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata)) } else { Err(io::Error::from(ErrorKind::InvalidInput)) }
    });
    match opened {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Open { path: path.into(), source }),
    }
}
