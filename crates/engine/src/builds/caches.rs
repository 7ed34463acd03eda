//! Cache mounts: directories that outlive the steps that use them.

use super::failed;
use crate::Result;
use std::{io, path::Path};

/// Removes those that no build uses now; gives how many bytes that frees.
pub(super) fn prune(caches: &Path) -> Result<u64> {
    let mut freed = 0;
    let entries = match std::fs::read_dir(caches) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed("read", caches))?,
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let directory = std::fs::File::open(&path).map_err(failed("open", &path))?;
        // Builds hold a lock while they use it.
        if rustix::fs::flock(&directory, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        freed += crate::volumes::directory_size(&path);
        std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
    }
    Ok(freed)
}
