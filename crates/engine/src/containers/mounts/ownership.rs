//! Who the files of a mount belong to: ids that are mapped by the mount (`idmap`), and volumes that are given to the
//! container's user when they are first used (`U`).

use crate::{Error, Result, containers::record::MountPoint};
use std::{os::unix::fs::MetadataExt, path::Path};
use wharf_api::mount::Mount;
use wharf_spec::plan::{IdMap, IdMaps};

/// `idmap` without a mapping, as it is recorded.
const AUTO: &str = "auto";
/// The largest id is none: it means "unchanged".
const IDS: u32 = u32::MAX;

/// Whom a container's files belong to.
#[derive(Debug, Clone, Default)]
pub(in crate::containers) struct Owners {
    /// User and group of the container's main process, in the container.
    pub(in crate::containers) user: (u32, u32),
    /// The container's user namespace, if it has one.
    pub(in crate::containers) ids: Option<std::sync::Arc<IdMaps>>,
}

/// Takes `idmap`, `idmap=...` and `U` of a mode into the mount's options.
///
/// # Errors
/// What is wrong with the mapping, or with `U` for a path of the host.
pub(super) fn take_words(mode: &str, spec: &mut Mount) -> Result<(), String> {
    for word in mode.split(',') {
        if let Some(mapping) = idmap_word(word) {
            check_mapping(mapping)?;
            match spec.kind.as_str() {
                "bind" => spec.bind_options.get_or_insert_default().id_map = mapping.to_owned(),
                _ => spec.volume_options.get_or_insert_default().id_map = mapping.to_owned(),
            }
        }
        if word == "U" {
            if spec.kind != "volume" {
                return Err("U is for volumes: what belongs to the host is not given away, see idmap".into());
            }
            spec.volume_options.get_or_insert_default().chown = true;
        }
    }
    Ok(())
}

/// The mapping that a word of a mode asks for.
fn idmap_word(word: &str) -> Option<&str> {
    if word == "idmap" { Some(AUTO) } else { word.strip_prefix("idmap=") }
}

/// Whether a word of a mode is about owners, and which kind of word it is.
pub(super) fn is_word(word: &str) -> bool {
    word == "U" || idmap_word(word).is_some()
}

/// Checks the owners' part of a structured mount.
///
/// # Errors
/// What is wrong with the mapping.
pub(super) fn check(mount: &Mount) -> Result<(), String> {
    mapping_of(mount).map_or(Ok(()), check_mapping)
}

fn mapping_of(mount: &Mount) -> Option<&str> {
    let bind = mount.bind_options.as_ref().map(|options| options.id_map.as_str());
    let volume = mount.volume_options.as_ref().map(|options| options.id_map.as_str());
    bind.or(volume).filter(|mapping| !mapping.is_empty())
}

/// Whether the volume is given to the container's user at its first use.
pub(in crate::containers) fn wants_chown(point: &MountPoint) -> bool {
    point.spec.volume_options.as_ref().is_some_and(|options| options.chown)
}

/// Whether the files of a mount have a container's own ids on the disk: then what is copied into it must have them.
pub(in crate::containers) fn keeps_container_ids(point: &MountPoint) -> bool {
    mapping_of(&point.spec) == Some(AUTO)
}

/// Whether the mount maps ids.
pub(in crate::containers) fn is_mapped(point: &MountPoint) -> bool {
    mapping_of(&point.spec).is_some()
}

/// The ids that a mount maps: those on the disk are `inside`, those that the host sees `outside`. `None` where they
/// are not mapped. Blocks.
///
/// Without a mapping of its own, a container in a user namespace sees the numbers that are on the disk; in another
/// container the owner of the source and the container's user change places.
///
/// # Errors
/// When the source is gone, or the mapping leaves the container's user namespace.
pub(in crate::containers) fn id_maps(point: &MountPoint, owners: &Owners) -> Result<Option<IdMaps>> {
    let Some(mapping) = mapping_of(&point.spec) else { return Ok(None) };
    if mapping != AUTO {
        let bad = |why| Error::Invalid(format!("invalid idmap of mount {}: {why}", point.destination));
        return parse(mapping, owners.ids.as_deref()).map(Some).map_err(bad);
    }
    if let Some(ids) = &owners.ids {
        return Ok(Some((**ids).clone()));
    }
    let found = std::fs::metadata(&point.source);
    let found =
        found.map_err(|source| Error::Io { step: "stat", path: Path::new(&point.source).into(), source })?;
    let (uid, gid) = owners.user;
    if (found.uid(), found.gid()) == (uid, gid) {
        return Ok(None);
    }
    Ok(Some(IdMaps { uids: exchange(found.uid(), uid), gids: exchange(found.gid(), gid) }))
}

/// All ids are themselves, but these two are each other.
fn exchange(a: u32, b: u32) -> Vec<IdMap> {
    let (low, high) = (a.min(b), a.max(b));
    let same = |first: u32, end: u32| IdMap { inside: first, outside: first, count: end - first };
    if low == high {
        return vec![same(0, IDS)];
    }
    let one = |inside, outside| IdMap { inside, outside, count: 1 };
    let parts = [same(0, low), one(low, high), same(low + 1, high), one(high, low), same(high + 1, IDS)];
    parts.into_iter().filter(|part| part.count > 0).collect()
}

fn check_mapping(mapping: &str) -> Result<(), String> {
    if mapping == AUTO { Ok(()) } else { parse(mapping, None).map(drop) }
}

/// `uids=<disk>-<host>-<count>#...;gids=...`, the form of crun and podman: with an `@` before a range its second
/// number is one of the container. What is not given stays as it is. Without maps every number is taken.
fn parse(mapping: &str, ids: Option<&IdMaps>) -> Result<IdMaps, String> {
    let all = || vec![IdMap { inside: 0, outside: 0, count: IDS }];
    let mut maps = IdMaps { uids: all(), gids: all() };
    for part in mapping.split(';') {
        let ranges = |text: &str, own: Option<&[IdMap]>| {
            let ranges: Result<Vec<IdMap>, String> =
                text.split('#').map(|range| parse_range(range, own)).collect();
            ranges.and_then(distinct)
        };
        match part.split_once('=') {
            Some(("uids", text)) => maps.uids = ranges(text, ids.map(|ids| ids.uids.as_slice()))?,
            Some(("gids", text)) => maps.gids = ranges(text, ids.map(|ids| ids.gids.as_slice()))?,
            _ => return Err(format!("{part:?} is not uids=... or gids=...")),
        }
    }
    Ok(maps)
}

fn parse_range(text: &str, own: Option<&[IdMap]>) -> Result<IdMap, String> {
    let bad = || format!("{text:?} is not <id on the disk>-<id of the host>-<count>");
    let (relative, numbers) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let numbers: Option<Vec<u32>> = numbers.split('-').map(|number| number.parse().ok()).collect();
    let Some([inside, outside, count]) = numbers.as_deref().and_then(|n| <[u32; 3]>::try_from(n).ok()) else {
        return Err(bad());
    };
    let fits = |first: u32| first.checked_add(count).is_some();
    if count == 0 || !fits(inside) || !fits(outside) {
        return Err(bad());
    }
    match own.filter(|_| relative) {
        None => Ok(IdMap { inside, outside, count }),
        Some(own) => {
            let map = own.iter().find(|map| {
                outside >= map.inside
                    && u64::from(outside) + u64::from(count) <= u64::from(map.inside) + u64::from(map.count)
            });
            let map = map.ok_or_else(|| format!("{text:?} leaves the container's user namespace"))?;
            Ok(IdMap { inside, outside: map.outside + (outside - map.inside), count })
        }
    }
}

/// The kernel takes no id twice, on neither side.
fn distinct(ranges: Vec<IdMap>) -> Result<Vec<IdMap>, String> {
    let overlap = |a: (u32, u32), b: (u32, u32)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    for (number, a) in ranges.iter().enumerate() {
        let twice = ranges[number + 1..].iter().any(|b| {
            overlap((a.inside, a.count), (b.inside, b.count))
                || overlap((a.outside, a.count), (b.outside, b.count))
        });
        if twice {
            return Err("an id is mapped twice".into());
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(maps: &[IdMap]) -> Vec<(u32, u32, u32)> {
        maps.iter().map(|map| (map.inside, map.outside, map.count)).collect()
    }

    #[test]
    fn mappings_are_those_of_podman() {
        let maps = parse("uids=0-1000-1#1-5-2;gids=7-8-9", None).unwrap();
        assert_eq!((lines(&maps.uids), lines(&maps.gids)), (vec![(0, 1000, 1), (1, 5, 2)], vec![(7, 8, 9)]));
        assert_eq!(lines(&parse("uids=0-1-1", None).unwrap().gids), [(0, 0, u32::MAX)]);
        let own = vec![IdMap { inside: 0, outside: 100_000, count: 10 }];
        let own = IdMaps { uids: own.clone(), gids: own };
        assert_eq!(lines(&parse("uids=@5-3-2", Some(&own)).unwrap().uids), [(5, 100_003, 2)]);
        assert!(parse("uids=@5-9-2", Some(&own)).unwrap_err().contains("leaves"));
        for bad in [
            "",
            "uids",
            "uids=1-2",
            "uids=1-2-0",
            "uids=1-2-3-4",
            "uids=a-1-1",
            "x=1-1-1",
            "uids=4294967295-1-1",
            "uids=0-1-2#1-9-1",
            "uids=0-1-2#5-2-1",
        ] {
            assert!(parse(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_ids_change_places() {
        let top = u32::MAX;
        assert_eq!(
            lines(&exchange(1000, 0)),
            [(0, 1000, 1), (1, 1, 999), (1000, 0, 1), (1001, 1001, top - 1001)]
        );
        assert_eq!(lines(&exchange(0, 1))[..2], [(0, 1, 1), (1, 0, 1)]);
        assert_eq!(lines(&exchange(5, 5)), [(0, 0, top)]);
        assert_eq!(exchange(3, 9).iter().map(|m| u64::from(m.count)).sum::<u64>(), u64::from(top));
    }

    #[test]
    fn words_of_modes() {
        let mut spec = Mount { kind: "bind".into(), ..Mount::default() };
        take_words("ro,idmap", &mut spec).unwrap();
        assert_eq!(spec.bind_options.as_ref().unwrap().id_map, AUTO);
        assert!(take_words("U", &mut spec).unwrap_err().starts_with("U is for volumes"));
        assert!(take_words("idmap=nonsense", &mut spec).is_err());
        let mut volume = Mount { kind: "volume".into(), ..Mount::default() };
        take_words("U,idmap=uids=0-1-1", &mut volume).unwrap();
        let options = volume.volume_options.unwrap();
        assert!(options.chown && options.id_map == "uids=0-1-1");
    }
}
