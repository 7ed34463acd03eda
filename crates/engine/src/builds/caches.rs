//! What builds leave for later builds besides images: cache mounts and contexts. The time of a directory is that of its
//! last use; builds hold a lock on it while they use it.

use super::{Inner, failed};
use crate::{Error, Result};
use rustix::fs::FlockOperation;
use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};
use wharf_api::{build_cache::CacheRecord, time::Time};

/// For [`crate::Builds::prune`].
#[derive(Debug, Clone, Default)]
pub struct PruneCaches {
    /// So many bytes stay, of those that were used last.
    pub keep: u64,
    /// `until`, `type`, and `id` as a part of one.
    pub filters: crate::Filters,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids: digests of names of caches, and of ids of contexts.
    pub ids: Vec<String>,
    /// In bytes.
    pub freed: u64,
}

/// What is kept, as BuildKit calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mount,
    Context,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Mount => "exec.cachemount",
            Self::Context => "source.local",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Mount => "cache mount of RUN",
            Self::Context => "build context",
        }
    }
}

/// Something on the disk.
pub(super) struct Cache {
    pub(super) id: String,
    pub(super) path: PathBuf,
    pub(super) used: SystemTime,
    /// In bytes.
    pub(super) size: u64,
    made: SystemTime,
    kind: Kind,
}

/// Which of them go.
pub(super) struct Prune {
    pub(super) until: Option<SystemTime>,
    pub(super) ids: Vec<String>,
    pub(super) kinds: Vec<String>,
    pub(super) keep: u64,
}

impl Inner {
    /// Removes what no build uses now: what was not used since a time, whose id has one of these parts, the oldest first
    /// until no more than `keep` bytes are left.
    pub(super) fn prune(&self, wanted: &Prune) -> Result<Pruned> {
        let mut caches = self.all_caches()?;
        caches.sort_by_key(|cache| cache.used);
        let mut left: u64 = caches.iter().map(|cache| cache.size).sum();
        let mut pruned = Pruned::default();
        for cache in caches {
            let is_meant = wanted.until.is_none_or(|until| cache.used < until)
                && (wanted.ids.is_empty() || wanted.ids.iter().any(|part| cache.id.contains(part.as_str())))
                && (wanted.kinds.is_empty() || wanted.kinds.iter().any(|kind| kind == cache.kind.name()));
            if !is_meant || (wanted.keep > 0 && left <= wanted.keep) || !self.remove_cache(&cache)? {
                continue;
            }
            left -= cache.size;
            pruned.freed += cache.size;
            pruned.ids.push(cache.id);
        }
        Ok(pruned)
    }

    /// Says whether it could be removed, because nobody uses it.
    fn remove_cache(&self, cache: &Cache) -> Result<bool> {
        if cache.kind == Kind::Context {
            return wharf_build::remove_kept(&cache.path, &self.scratch()).map_err(Error::Build);
        }
        let directory = std::fs::File::open(&cache.path).map_err(failed("open", &cache.path))?;
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        std::fs::remove_dir_all(&cache.path).map_err(failed("remove", &cache.path))?;
        Ok(true)
    }

    fn all_caches(&self) -> Result<Vec<Cache>> {
        let mut caches = all(&self.caches(), Kind::Mount)?;
        caches.extend(all(&self.contexts(), Kind::Context)?);
        Ok(caches)
    }

    /// As the API tells of them.
    pub(super) fn cache_records(&self) -> Result<Vec<CacheRecord>> {
        let caches = self.all_caches()?;
        Ok(caches.iter().map(record).collect())
    }
}

fn record(cache: &Cache) -> CacheRecord {
    let is_free =
        |file: std::fs::File| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    CacheRecord {
        id: cache.id.clone(),
        kind: cache.kind.name().into(),
        description: cache.kind.description().into(),
        in_use: std::fs::File::open(&cache.path).is_ok_and(|file| !is_free(file)),
        size: i64::try_from(cache.size).unwrap_or(i64::MAX),
        created_at: time(cache.made),
        last_used_at: Some(time(cache.used)),
        usage_count: 1,
        ..CacheRecord::default()
    }
}

/// What no calendar holds is never.
fn time(at: SystemTime) -> Time {
    jiff::Timestamp::try_from(at).map_or(Time::ZERO, Time::from)
}

/// All of a kind.
pub(super) fn all(home: &Path, kind: Kind) -> Result<Vec<Cache>> {
    let entries = match std::fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", home))?,
    };
    // One that leaves meanwhile is none.
    let cache = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let metadata = entry.metadata().ok()?;
        let used = metadata.modified().ok()?;
        // Not every file system tells when something was made.
        let made = metadata.created().unwrap_or(used);
        let id = entry.file_name().to_string_lossy().into_owned();
        let size = crate::volumes::directory_size(&path);
        Some(Cache { id, path, used, size, made, kind })
    };
    Ok(entries.flatten().filter_map(cache).collect())
}

/// The directory of a cache, used now.
pub(super) fn directory(home: &Path, name: &str) -> Result<PathBuf> {
    let path = home.join(wharf_store::sha256(name.as_bytes()).hex());
    super::make(&path)?;
    let open = std::fs::File::open(&path).map_err(failed("open", &path))?;
    open.set_modified(SystemTime::now()).map_err(failed("set times of", &path))?;
    Ok(path)
}
