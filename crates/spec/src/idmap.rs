//! Ids of a user namespace: the translation between what a container calls a user or group and what the host does,
//! and the ranges of `/etc/subuid` and `/etc/subgid` that it is made of.

use crate::plan::{IdMap, IdMaps};
use std::io::BufRead;

/// An id that has no counterpart. The texts are Docker's (source: moby `vendor/github.com/moby/sys/user/idtools.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmapped {
    /// Of a container.
    #[error("container ID {0} cannot be mapped to a host ID")]
    Container(u32),
    /// Of the host.
    #[error("host ID {0} cannot be mapped to a container ID")]
    Host(u32),
}

/// Why a file of ranges is no use.
#[derive(Debug, thiserror::Error)]
pub enum SubIdError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// A line is not `name:first:count`.
    #[error("invalid line {0:?}")]
    Line(String),
    /// Nobody gave this user any.
    #[error("no {file} ranges found for user {user:?}")]
    None {
        /// `subuid` or `subgid`.
        file: &'static str,
        /// The name that was looked for.
        user: String,
    },
    /// More ids than there are.
    #[error("ranges of user {0:?} hold more ids than there are")]
    TooMany(String),
}

/// A range of subordinate ids: the first, and how many.
pub type Range = (u32, u32);

/// No line of a file of ranges is longer (bytes).
const MAX_LINE: u64 = 4096;
/// As much of such a file is read (bytes).
const MAX_FILE: u64 = 16 << 20;

impl IdMaps {
    /// User and group of the host that are the container's root.
    ///
    /// # Errors
    /// When the maps leave root out.
    pub fn root(&self) -> Result<(u32, u32), Unmapped> {
        self.to_host(0, 0)
    }

    /// A container's user and group as the host's.
    ///
    /// # Errors
    /// When one of them has no counterpart.
    pub fn to_host(&self, uid: u32, gid: u32) -> Result<(u32, u32), Unmapped> {
        let find = |maps: &[IdMap], id| outside(maps, id).ok_or(Unmapped::Container(id));
        Ok((find(&self.uids, uid)?, find(&self.gids, gid)?))
    }

    /// A user and group of the host as the container's.
    ///
    /// # Errors
    /// When one of them has no counterpart.
    pub fn to_container(&self, uid: u32, gid: u32) -> Result<(u32, u32), Unmapped> {
        let find = |maps: &[IdMap], id| inside(maps, id).ok_or(Unmapped::Host(id));
        Ok((find(&self.uids, uid)?, find(&self.gids, gid)?))
    }
}

fn outside(maps: &[IdMap], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| shift(id, map.inside, map.outside, map.count))
}

fn inside(maps: &[IdMap], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| shift(id, map.outside, map.inside, map.count))
}

fn shift(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    let offset = id.checked_sub(from).filter(|offset| *offset < count)?;
    to.checked_add(offset)
}

/// The ranges in a file of lines `name:first:count` that belong to a user, who may stand there by name or by number
/// (source: moby `daemon/internal/usergroup/lookup_unix.go`, lookupSubRangesFile).
///
/// # Errors
/// When it cannot be read or a line is none.
pub fn sub_ids(file: impl BufRead, wanted: impl Fn(&str) -> bool) -> Result<Vec<Range>, SubIdError> {
    let mut ranges = Vec::new();
    for line in file.take(MAX_FILE).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim().to_owned();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || SubIdError::Line(line.clone());
        let parts: Vec<&str> = line.split(':').collect();
        let [name, first, count] = parts.as_slice() else { return Err(bad()) };
        if line.len() as u64 > MAX_LINE {
            return Err(bad());
        }
        if wanted(name) {
            ranges.push((first.parse().map_err(|_| bad())?, count.parse().map_err(|_| bad())?));
        }
    }
    Ok(ranges)
}

/// One map of all ranges: the container's ids start at 0 and go on from range to range, in the order of the file.
///
/// # Errors
/// When there are no ranges, or more ids than 32 bits can count.
pub fn map_of(ranges: &[Range], file: &'static str, user: &str) -> Result<Vec<IdMap>, SubIdError> {
    if ranges.is_empty() {
        return Err(SubIdError::None { file, user: user.to_owned() });
    }
    let mut inside = 0u32;
    let mut maps = Vec::with_capacity(ranges.len());
    for &(outside, count) in ranges.iter().filter(|(_, count)| *count > 0) {
        let too_many = || SubIdError::TooMany(user.to_owned());
        outside.checked_add(count).ok_or_else(too_many)?;
        maps.push(IdMap { inside, outside, count });
        inside = inside.checked_add(count).ok_or_else(too_many)?;
    }
    Ok(maps)
}

/// Where a range of so many ids is free, above all that exist (source: moby `daemon/internal/usergroup/add_linux.go`,
/// findNextRangeStart, which looks only at one user's).
pub fn free_range(existing: &[Range], count: u32) -> Option<Range> {
    const FIRST: u32 = 100_000;
    let mut sorted = existing.to_vec();
    sorted.sort_unstable();
    let mut start = FIRST;
    for (first, count_there) in sorted {
        let end = first.checked_add(count_there)?;
        if first < start.checked_add(count)? && start < end {
            start = end;
        }
    }
    start.checked_add(count).map(|_| (start, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(ranges: &[Range]) -> IdMaps {
        let map = map_of(ranges, "subuid", "me").unwrap();
        IdMaps { uids: map.clone(), gids: map }
    }

    #[test]
    fn ids_are_translated_range_by_range() {
        let maps = maps(&[(100_000, 1000), (500_000, 10)]);
        assert_eq!(maps.root(), Ok((100_000, 100_000)));
        assert_eq!(maps.to_host(999, 1000), Ok((100_999, 500_000)));
        assert_eq!(maps.to_container(500_009, 100_001), Ok((1009, 1)));
        let text = |result: Result<_, Unmapped>| result.unwrap_err().to_string();
        assert_eq!(text(maps.to_host(1010, 0)), "container ID 1010 cannot be mapped to a host ID");
        assert_eq!(text(maps.to_container(0, 0)), "host ID 0 cannot be mapped to a container ID");
    }

    #[test]
    fn files_of_ranges() {
        let file = "# ours\nme:100000:65536\n\nyou:1:2\n1000:700000:5\n";
        let mine = sub_ids(file.as_bytes(), |name| name == "me" || name == "1000").unwrap();
        assert_eq!(mine, [(100_000, 65536), (700_000, 5)]);
        assert!(map_of(&[], "subuid", "x").unwrap_err().to_string().starts_with("no subuid ranges found"));
        assert!(map_of(&[(u32::MAX, 2)], "subuid", "x").is_err());
        for bad in ["me:1", "me:1:x", "me:-1:5", "me:1:2:3"] {
            assert!(sub_ids(bad.as_bytes(), |name| name == "me").is_err(), "{bad}");
        }
    }

    #[test]
    fn free_ranges_overlap_nothing() {
        assert_eq!(free_range(&[], 65536), Some((100_000, 65536)));
        assert_eq!(free_range(&[(165_536, 65536), (100_000, 65536)], 65536), Some((231_072, 65536)));
        assert_eq!(free_range(&[(1, 5), (120_000, 1)], 65536), Some((120_001, 65536)));
        assert_eq!(free_range(&[(u32::MAX - 5, 5), (100_000, u32::MAX - 100_006)], 65536), None);
    }
}
