//! Cache mounts: directories that outlive the steps that use them. The time of a directory is that of its last use.

use super::failed;
use crate::Result;
use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// For [`crate::Builds::prune`].
#[derive(Debug, Clone, Default)]
pub struct PruneCaches {
    /// So many bytes stay, of those that were used last.
    pub keep: u64,
    /// `until`, and `id` as a part of one.
    pub filters: crate::Filters,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of caches, which are the digests of their names.
    pub ids: Vec<String>,
    /// In bytes.
    pub freed: u64,
}

/// A cache on the disk.
struct Cache {
    id: String,
    path: PathBuf,
    used: SystemTime,
    size: u64,
}

/// Removes caches that no build uses now: those not used since a time, whose id has one of these parts, the oldest first
/// until no more than `keep` bytes are left.
pub(super) fn prune(home: &Path, until: Option<SystemTime>, ids: &[String], keep: u64) -> Result<Pruned> {
    let mut caches = all(home)?;
    caches.sort_by_key(|cache| cache.used);
    let mut left: u64 = caches.iter().map(|cache| cache.size).sum();
    let mut pruned = Pruned::default();
    for cache in caches {
        let is_meant = until.is_none_or(|until| cache.used < until)
            && (ids.is_empty() || ids.iter().any(|part| cache.id.contains(part.as_str())));
        if !is_meant || (keep > 0 && left <= keep) {
            continue;
        }
        let directory = std::fs::File::open(&cache.path).map_err(failed("open", &cache.path))?;
        // Builds hold a lock while they use it.
        if rustix::fs::flock(&directory, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        std::fs::remove_dir_all(&cache.path).map_err(failed("remove", &cache.path))?;
        left -= cache.size;
        pruned.freed += cache.size;
        pruned.ids.push(cache.id);
    }
    Ok(pruned)
}

fn all(home: &Path) -> Result<Vec<Cache>> {
    let entries = match std::fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", home))?,
    };
    let cache = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let used =
            entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed("stat", &path))?;
        let (id, size) =
            (entry.file_name().to_string_lossy().into_owned(), crate::volumes::directory_size(&path));
        Ok(Cache { id, path, used, size })
    };
    entries.flatten().map(cache).collect()
}

/// The directory of a cache, used now.
pub(super) fn directory(home: &Path, name: &str) -> Result<PathBuf> {
    let path = home.join(wharf_store::sha256(name.as_bytes()).hex());
    super::make(&path)?;
    let open = std::fs::File::open(&path).map_err(failed("open", &path))?;
    open.set_modified(SystemTime::now()).map_err(failed("set times of", &path))?;
    Ok(path)
}
